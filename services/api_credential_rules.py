"""What an API credential may be called, do, come from, and how long it works."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from models import ApiScope, Group, is_storable
from services.errors import InvalidInputs

NAME_LENGTHS = (2, 64)
LONGEST_DESCRIPTION = 200
MOST_NETWORKS = 100
YEARS_AHEAD = 5
SOON = timedelta(days=14)
"""A credential that expires within this time is marked."""

_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]")
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Terms:
    """What a form says of a credential beside its name.

    `networks` is a text of one address or network per line. `last_day` is the last day, in UTC, on
    which it works; None for no end.
    """

    description: str
    scopes: Collection[ApiScope]
    all_groups: bool
    group_ids: Collection[int]
    networks: str
    last_day: date | None


@dataclass(frozen=True, slots=True)
class CheckedTerms:
    """Terms that break no rule, as columns; `groups` is empty where all of them are meant."""

    columns: dict[str, Any]
    groups: tuple[Group, ...]


def check_terms(
    terms: Terms,
    groups: Collection[Group],
    now: datetime,
    *,
    name: str | None = None,
    expires_at: datetime | None = None,
) -> CheckedTerms:
    """The columns that `terms` stand for. `groups` are those that can be chosen.

    `name` is checked where it is given; `expires_at` is the end until now, which may stay although
    it has passed. Raises InvalidInputs with every fault.
    """
    faults: list[tuple[str, str]] = []
    if name is not None:
        faults += [("name", each) for each in _name_faults(name)]
    faults += [("description", each) for each in _description_faults(terms.description)]
    if not terms.scopes:
        faults.append(("scopes", "Choose at least one thing that it may do."))
    chosen = tuple(each for each in groups if each.id in set(terms.group_ids))
    if not terms.all_groups:
        if not terms.group_ids:
            faults.append(("groups", "Choose at least one group, or all of them."))
        elif len(chosen) != len(set(terms.group_ids)):
            faults.append(("groups", "A group that was chosen is not there. Choose others."))
    networks, wrong = read_networks(terms.networks)
    faults += [("networks", each) for each in wrong]
    end = _end_of(terms.last_day)
    if end is not None and expires_at is not None and terms.last_day == last_day_of(expires_at):
        end = expires_at
    else:
        faults += [("last_day", each) for each in _expiry_faults(terms.last_day, now)]
    if faults:
        raise InvalidInputs(faults)
    return CheckedTerms(
        columns={
            "description": terms.description,
            "may_read": ApiScope.READ in terms.scopes,
            "may_write": ApiScope.WRITE in terms.scopes,
            "may_send": ApiScope.SEND in terms.scopes,
            "all_groups": terms.all_groups,
            "networks": networks,
            "expires_at": end,
        },
        groups=() if terms.all_groups else chosen,
    )


def _name_faults(name: str) -> list[str]:
    shortest, longest = NAME_LENGTHS
    if found := _NOT_IN_NAMES.search(name):
        letter = found[0] if found[0].isprintable() else "a character that cannot be seen"
        return [
            f"Name contains {'a space' if letter == ' ' else letter}. "
            "It may consist of a to z, 0 to 9, dot, hyphen and underscore."
        ]
    if not shortest <= len(name) <= longest:
        count = f"{len(name):,} character{'' if len(name) == 1 else 's'}"
        return [f"Name has {count}. It needs {shortest} to {longest}."]
    return []


def _description_faults(description: str) -> list[str]:
    if len(description) > LONGEST_DESCRIPTION:
        return [
            f"Description has {len(description):,} characters. The limit is {LONGEST_DESCRIPTION}."
        ]
    if not is_storable(description) or not description.isprintable():
        return ["Description contains a character that cannot be seen. Type it by hand."]
    return []


# --- Expiry --------------------------------------------------------------------------------------


def latest_day(now: datetime) -> date:
    """The last day on which a credential that is made now may work."""
    today = now.astimezone(UTC).date()
    try:
        return today.replace(year=today.year + YEARS_AHEAD)
    except ValueError:  # 29 February, which the other year has not.
        return today.replace(year=today.year + YEARS_AHEAD, day=28)


def last_day_of(expires_at: datetime) -> date:
    return expires_at.astimezone(UTC).date()


def _end_of(last_day: date | None) -> datetime | None:
    """The last moment of the day, so that every reader of it sees that day's date."""
    return datetime.combine(last_day, time.max, UTC) if last_day is not None else None


def _expiry_faults(last_day: date | None, now: datetime) -> list[str]:
    if last_day is None:
        return []
    latest = latest_day(now)
    if last_day < now.astimezone(UTC).date():
        return [f"{last_day.isoformat()} has passed. Choose a day from today on, or none."]
    if last_day > latest:
        return [
            f"{last_day.isoformat()} is more than {YEARS_AHEAD} years ahead. "
            f"The latest day is {latest.isoformat()}."
        ]
    return []


# --- Networks ------------------------------------------------------------------------------------


def read_networks(text: str) -> tuple[list[str], list[str]]:
    """The networks of a text in CIDR notation, each once, and what is wrong, by its line."""
    networks: dict[str, None] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        written = line.strip()
        if not written:
            continue
        try:
            networks[_read_network(written)] = None
        except ValueError as error:
            faults.append(f"Line {number}: {error}")
    if len(networks) > MOST_NETWORKS:
        faults.append(
            f"There are {len(networks):,} networks. The limit is {MOST_NETWORKS}: "
            "write the network that several have in common."
        )
    return list(networks), faults[:10]


def write_networks(networks: Collection[str]) -> list[str]:
    """Networks as people write them: an address alone without its /32 or /128."""
    return [each.removesuffix("/32" if "." in each else "/128") for each in networks]


def _read_network(written: str) -> str:
    shown = written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"
    if not shown.isprintable() or not is_storable(shown):
        raise ValueError("It contains a character that cannot be seen. Type it by hand.")
    try:
        if "%" in written:  # Such an address means something on one machine only.
            raise ValueError
        found = ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise ValueError(
            f"{shown} is no address and no network. Write one such as 192.0.2.7, 192.0.2.0/24 "
            "or 2001:db8::/32."
        ) from None
    address = written.partition("/")[0]
    if str(found.network_address) != str(ipaddress.ip_address(address)):
        raise ValueError(
            f"{shown} is an address inside a network. Write {found} for the whole network, "
            f"or {address} for this address."
        )
    return str(_unmapped(found))


def _unmapped(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """IPv4 for what a socket of both families writes as IPv6: callers are compared so, too."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - 96))
