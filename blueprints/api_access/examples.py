"""A first call with a credential, ready for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from models import ApiCredential, ApiScope, Group


def write_example(credential: ApiCredential, groups: Sequence[Group], portal: str) -> str:
    """A curl command that the credential may run; curl asks for the secret.

    In the command itself the secret would rest in the shell's history. `groups` are all that there
    are, `portal` is the address of this installation.
    """
    reached = groups if credential.all_groups else credential.groups
    groupno = str(reached[0].groupno) if reached else "GROUPNO"
    customers = f"{portal}/api/v1/group/{groupno}/customer"
    curl = f"curl --user {credential.name}"
    if ApiScope.READ in credential.scopes:
        return f"{curl} {customers}"
    if ApiScope.SEND in credential.scopes:
        return f"{curl} --request POST {customers}/CUSTNO/send-welcome-email"
    return f"{curl} --json @customer.json {customers}"
