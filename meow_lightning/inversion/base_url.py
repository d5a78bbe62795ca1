"""Validation of a server's base URL and API key before anything is sent."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from meow_lightning.errors import UserError

_CHAT = "/chat/completions"


def checked_address(base_url: object) -> str:
    """Validate a server's base URL and strip trailing slashes.

    Raises:
        UserError: It is not a URL, or contains a user name, a password or a query, which messages would reveal.
    """
    like = "give one such as http://localhost:8000/v1"
    if not isinstance(base_url, str) or not base_url.strip():
        raise UserError(f"inversion.base_url={base_url} is not an address; {like}")
    given = base_url.strip()
    if "://" not in given:
        raise UserError(f"inversion.base_url={given} does not say http or https; set inversion.base_url=http://{given}")
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"inversion.base_url={given} is not an address ({error}); {like}") from error
    if parts.username or parts.password:
        raise UserError(
            "inversion.base_url holds a name or a password; leave it out and put the key into the environment variable "
            "that inversion.key_env names"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"inversion.base_url={given} is not an address of http or https; {like}")
    if parts.query or parts.fragment:
        raise UserError(f"inversion.base_url={given.split('?')[0].split('#')[0]} must end there, without a ? or #")
    if given.rstrip("/").endswith(_CHAT):
        short = given.rstrip("/").removesuffix(_CHAT)
        raise UserError(
            f"inversion.base_url={given} is too long; {_CHAT} is put after it: set inversion.base_url={short}"
        )
    return given.rstrip("/")


def is_local(base_url: str) -> bool:
    """Whether a base URL points to this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return number.is_loopback or number.is_unspecified


def api_key(key_env: str | None, *, base_url: str) -> str | None:
    """Read the API key from an environment variable; ``None`` if no key is configured or set.

    Raises:
        UserError: It contains characters that are invalid in a key, or it would be sent unencrypted.
    """
    found = os.environ.get(key_env, "").strip() if key_env else ""
    if not found:
        return None
    if not (found.isascii() and found.isprintable()):
        raise UserError(
            f"the environment variable {key_env} holds a line break or a letter that no key has; set it anew"
        )
    if base_url.startswith("http://") and not is_local(base_url):
        raise UserError(
            f"inversion.base_url={base_url} would carry the key in {key_env} unencrypted over the net; give an address "
            "with https, or inversion.key_env=null to send no key"
        )
    return found
