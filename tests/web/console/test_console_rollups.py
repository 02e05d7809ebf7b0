"""Down-sampling in the console: a rule made, shown and deleted, by its owner alone."""

from __future__ import annotations

import pytest
from console_site import Browser, Site

from headwater.registry.entities import Account
from headwater.store.aggregates import Function

FORM = {"window": "3600", "keep": "31536000", "aggregate": ["mean", "max"]}


async def test_from_no_rule_to_one_and_back(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    path = f"/channels/{channel.id}/down-sampling"
    page = (await ada.get(path)).text
    assert "New rule" in page
    assert "Computing the history" not in page
    page = (await ada.follow(await ada.post(path, FORM))).text
    assert "Down-sampling has begun" in page
    assert "Computing the history" in page
    assert "count, sum, mean, max" in page
    assert '<td data-label="Kept">1 year</td>' in page
    assert f"headwater export {channel.id} results.csv --window 1h" in page
    (report,) = await site.services.rollups.reports(ada_account.id, channel.id)
    assert (report.rule.window_s, report.rule.keep_s) == (3600, 365 * 86_400)
    page = (await ada.follow(await ada.post(f"{path}/{report.rule.id}/delete"))).text
    assert "were deleted" in page
    assert await site.services.rollups.reports(ada_account.id, channel.id) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aggregate": []}, "Choose at least one aggregate"),
        ({"aggregate": ["median"]}, "Choose at least one aggregate"),
        ({"window": "61"}, "from the lists"),
        ({"keep": "-1"}, "from the lists"),
    ],
)
async def test_what_cannot_be_is_refused(
    site: Site, ada: Browser, ada_account: Account, change: dict[str, object], message: str
) -> None:
    channel = await site.channel(ada_account)
    path = f"/channels/{channel.id}/down-sampling"
    await ada.get(path)
    response = await ada.post(path, FORM | change)
    assert response.status_code == 400
    assert message in response.text
    assert await site.services.rollups.reports(ada_account.id, channel.id) == []


async def test_a_second_rule_of_one_window_and_too_many_are_refused(
    site: Site, ada: Browser, ada_account: Account
) -> None:
    channel = await site.channel(ada_account)
    path = f"/channels/{channel.id}/down-sampling"
    await ada.get(path)
    assert (await ada.post(path, FORM)).status_code == 303
    assert "this window already" in (await ada.post(path, FORM)).text
    for window in ("60", "300"):
        assert (await ada.post(path, FORM | {"window": window})).status_code == 303
    assert "at most 3 rules" in (await ada.post(path, FORM | {"window": "86400"})).text


async def test_one_s_own_channel_does_not_open_another_s_rule(site: Site, ada: Browser, ada_account: Account) -> None:
    bob = await site.account("bob")
    theirs, mine = await site.channel(bob), await site.channel(ada_account)
    rule = await site.services.rollups.add(bob.id, theirs.id, window_s=60, functions=(Function.MEAN,), keep_s=None)
    await ada.get(f"/channels/{mine.id}/down-sampling")
    for channel_id in (mine.id, theirs.id, rule.target_bucket_id):
        assert (await ada.post(f"/channels/{channel_id}/down-sampling/{rule.id}/delete")).status_code == 404
    for path in ("", "/settings", "/down-sampling"):  # the target is no channel, for its owner neither
        assert (await ada.get(f"/channels/{rule.target_bucket_id}{path}")).status_code == 404
    assert len(await site.services.rollups.reports(bob.id, theirs.id)) == 1


async def test_rules_go_with_the_channel(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    await ada.get("/channels")
    assert (await ada.post(f"/channels/{channel.id}/down-sampling", FORM)).status_code == 303
    assert (await ada.post(f"/channels/{channel.id}/delete", {"confirmation": str(channel.id)})).status_code == 303
    assert site.services.rollups.of(channel.id) == []
    assert (await site.services.registry.read(lambda registry: registry.snapshot())).rollups == ()
