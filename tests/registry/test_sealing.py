"""What is sealed opens for whom it was sealed, and for nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.registry.sealing import Seal, SealBroken

SEAL = Seal(b"s" * 32)


@given(st.binary(max_size=200), st.text(max_size=20).filter(str.isprintable))
def test_what_is_sealed_can_be_opened(content: bytes, label: str) -> None:
    sealed = SEAL.close(content, label)
    assert SEAL.open(sealed, label) == content
    assert len(content) < 4 or content not in sealed


def test_the_same_is_never_sealed_to_the_same() -> None:
    assert SEAL.close(b"password", "a") != SEAL.close(b"password", "a")


def test_another_key_another_label_or_any_change_breaks_the_seal() -> None:
    sealed = SEAL.close(b"password", "account 1")
    with pytest.raises(SealBroken, match=r"restore that file"):
        Seal(b"t" * 32).open(sealed, "account 1")
    with pytest.raises(SealBroken):
        SEAL.open(sealed, "account 2")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(SealBroken):
            SEAL.open(bytes(changed), "account 1")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            SEAL.open(sealed[:length], "account 1")
