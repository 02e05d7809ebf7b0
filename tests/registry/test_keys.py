from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.registry import keys


@pytest.mark.parametrize(
    ("generate", "form"),
    [
        (keys.generate_api_key, r"[0-9A-Z]{16}"),
        (keys.generate_client_id, r"[0-9A-Za-z]{23}"),
        (keys.generate_device_password, r"[0-9A-Za-z]{24}"),
        (keys.generate_account_token, r"[0-9A-Za-z_-]{40,}"),
    ],
)
def test_a_generated_secret_has_its_form_and_never_comes_twice(generate, form):
    made = [generate() for _ in range(2000)]
    assert all(re.fullmatch(form, secret) for secret in made)
    assert len(set(made)) == len(made)


def test_every_character_of_the_alphabet_is_used():
    assert len(set("".join(keys.generate_api_key() for _ in range(500)))) == 36
    assert len(set("".join(keys.generate_device_password() for _ in range(500)))) == 62


@given(st.text(st.characters(codec="utf-8")))
def test_the_hash_is_sha_256_of_the_utf_8_text(text):
    octets = text.encode()
    assert keys.hash_secret(text) == keys.hash_secret(octets) == hashlib.sha256(octets).digest()


@given(st.text(st.characters()))  # half surrogate pairs too: what a JSON body may smuggle in
def test_any_text_has_a_hash(text):
    assert len(keys.hash_secret(text)) == 32
