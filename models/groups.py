"""Groups: a reseller's book of customers."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, IntPk


class Group(Base):
    __tablename__ = "groups"
    __table_args__ = (sa.CheckConstraint("groupno > 0", name="groupno_positive"),)

    id: Mapped[IntPk]
    groupno: Mapped[int] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
