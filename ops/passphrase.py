"""The passphrase that opens a stack's secrets: made once, never made again where something needs the old one."""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path
from typing import Final

from ops import paths
from ops.errors import OpsError
from ops.files import write_new

ROUNDS: Final = 1_000_000  # of PBKDF2, as Pulumi's passphrase secrets do


def file(stack: str) -> Path:
    """Where the stack's passphrase is: a folder apart from the state (0700), one file each (0600)."""
    return paths.passphrases() / stack


def opens(passphrase: str, salt: str) -> bool:
    """Whether the passphrase fits the `encryptionsalt` of a Pulumi.<stack>.yaml (about 0.3 s).

    The salt is `v1:<salt>:v1:<nonce>:<the word pulumi, encrypted>`; one written otherwise is left to Pulumi to judge.
    Raises OpsError for a damaged one.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parts = salt.split(":")
    if len(parts) != 5 or parts[0] != "v1" or parts[2] != "v1":
        return True
    try:
        salt_bytes, nonce, sealed = (base64.b64decode(parts[place], validate=True) for place in (1, 3, 4))
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt_bytes, ROUNDS, 32)
        AESGCM(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return False
    except ValueError as trouble:
        raise OpsError(
            f"the encryptionsalt is damaged ({trouble}): {salt[:60]}\n"
            "fix: put the line back as it was: `git log -p` of the stack's file has it, "
            "and so has the copy in the folder `stacks` beside the state"
        ) from trouble
    return True


def generate(stack: str) -> Path:
    """Writes a new one of 256 bits; never over one that is there. Raises OpsError."""
    paths.private_folder(paths.passphrases())
    path = file(stack)
    try:
        write_new(path, secrets.token_hex(32))
    except FileExistsError:
        raise OpsError(
            f"another command has just made the passphrase of stack {stack} ({path})\nfix: run this again"
        ) from None
    return path


def check(path: Path, salt: str | None, settings: Path) -> None:
    """Refuses a passphrase that does not open the stack's secrets. Raises OpsError."""
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    if salt and not opens(path.read_text().rstrip("\r\n"), salt):
        raise OpsError(
            f"wrong passphrase: the one in {path} does not open the secrets in {settings}\n"
            f"fix: put the passphrase back that belongs to them ({path}, one line), "
            f"or the {settings.name} that belongs to the passphrase"
        )


def refuse_new(stack: str, needs: list[str], settings: Path) -> OpsError:
    """Why no new passphrase is made."""
    found = "\n".join(f"  - {need}" for need in needs)
    return OpsError(
        f"the passphrase of stack {stack} is missing ({file(stack)}), and a new one could not open what is there:\n"
        f"{found}\n"
        f"fix: put the old passphrase back into {file(stack)} (and {settings.name} with its encryptionsalt)\n"
        "if it is gone for good: "
        f"`make destroy STACK={stack} DATA=delete` where it still works, or remove what is listed"
    )
