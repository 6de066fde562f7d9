"""Jobs about direct debits."""

from __future__ import annotations

from services import direct_debit_notices


def mail_notice(notice_id: int) -> None:
    """Mail a customer's contact that the bank account of his direct debit was changed.

    Triggered by the change and by the sweep. Idempotent: a notice that was mailed, or that another
    job is mailing, is left alone. A crash after the server's answer mails the same message once
    more.
    """
    direct_debit_notices.mail_notice(notice_id)
