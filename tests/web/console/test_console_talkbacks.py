"""TalkBacks in the console: made, filled, changed and deleted, by their owner alone."""

from __future__ import annotations

from console_site import Browser, Site

from headwater.registry.entities import Account
from headwater.services.talkbacks import MAX_NAME_LENGTH


async def test_from_apps_to_a_queue_and_back(site: Site, ada: Browser, ada_account: Account) -> None:
    talkbacks = site.services.talkbacks
    channel = await site.channel(ada_account, "Log <here>")
    assert 'href="/apps/talkbacks"' in (await ada.get("/apps")).text
    assert "Make your first TalkBack" in (await ada.get("/apps/talkbacks")).text
    await ada.get("/apps/talkbacks/new")
    form = {"name": "Door <1>", "log_channel": str(channel.id)}
    page = (await ada.follow(await ada.post("/apps/talkbacks/new", form))).text
    (made,) = talkbacks.owned(ada_account.id)
    assert (made.name, made.log_channel_id) == ("Door <1>", channel.id)
    assert "Door &lt;1&gt;" in page
    assert "Door <1>" not in page
    assert f"/talkbacks/{made.id}/commands/execute?api_key={made.api_key}" in page
    assert f"talkback_key={made.api_key}" in page
    assert f"api_key={channel.write_key}" in page

    here = f"/apps/talkbacks/{made.id}"
    for text, position in (("OPEN", ""), ("CLOSE", ""), ("<FIRST>", "1")):
        page = (
            await ada.follow(await ada.post(f"{here}/commands", {"command_string": text, "position": position}))
        ).text
    assert "&lt;FIRST&gt;" in page
    waiting = (await talkbacks.commands(made)).waiting
    assert [command.command_string for command in waiting] == ["<FIRST>", "OPEN", "CLOSE"]
    change = {"command_string": "SHUT", "position": "1"}
    await ada.follow(await ada.post(f"{here}/commands/{waiting[2].id}", change))
    await ada.follow(await ada.post(f"{here}/commands/{waiting[0].id}/delete"))
    waiting = (await talkbacks.commands(made)).waiting
    assert [command.command_string for command in waiting] == ["SHUT", "OPEN"]
    assert 'data-label="Waiting">2 commands<' in (await ada.get("/apps/talkbacks")).text

    await talkbacks.execute(made)
    page = (await ada.get(here)).text
    assert page.index("OPEN</code>") < page.index("Executed</h2>") < page.index("SHUT</code>")
    await ada.follow(await ada.post(f"{here}/commands/clear"))
    assert await talkbacks.commands(made) == ([], [])

    await ada.follow(await ada.post(f"{here}/key"))
    assert talkbacks.of_key(made.api_key) is None
    await ada.follow(await ada.post(here, {"name": "Gate", "log_channel": ""}))
    changed = talkbacks.get_owned(ada_account.id, made.id)
    assert (changed.name, changed.log_channel_id) == ("Gate", None)
    page = (await ada.follow(await ada.post(f"{here}/delete"))).text
    assert "“Gate” was deleted" in page
    assert talkbacks.owned(ada_account.id) == []


async def test_what_cannot_be_is_said_and_what_was_typed_stays(site: Site, ada: Browser, ada_account: Account) -> None:
    other = await site.channel(await site.account("bob"))
    await ada.get("/apps/talkbacks/new")
    for form in ({"name": ""}, {"name": "x" * (MAX_NAME_LENGTH + 1)}, {"name": "n", "log_channel": str(other.id)}):
        response = await ada.post("/apps/talkbacks/new", form)
        assert response.status_code == 400, form
        assert 'role="alert"' in response.text
    made = await site.services.talkbacks.create(ada_account.id, "door")
    here = f"/apps/talkbacks/{made.id}"
    for form in ({"command_string": ""}, {"command_string": "typed", "position": "0"}, {"position": "x"}):
        response = await ada.post(f"{here}/commands", form)
        assert response.status_code == 400, form
        assert 'role="alert"' in response.text
        assert ("typed" in response.text) == ("typed" in form.values())
    response = await ada.post(here, {"name": " ", "log_channel": ""})
    assert (response.status_code, "Name must not be empty" in response.text) == (400, True)
    command = await site.services.talkbacks.add_command(ada_account.id, made.id, "ON")
    await site.services.talkbacks.execute(made)
    response = await ada.post(f"{here}/commands/{command.id}", {"command_string": "OFF"})
    assert (response.status_code, "was executed already" in response.text) == (400, True)


async def test_a_long_queue_is_shown_in_part(site: Site, ada: Browser, ada_account: Account) -> None:
    made = await site.services.talkbacks.create(ada_account.id, "door")
    for number in range(103):
        await site.services.talkbacks.add_command(ada_account.id, made.id, f"COMMAND-{number}")
    page = (await ada.get(f"/apps/talkbacks/{made.id}")).text
    assert "COMMAND-99<" in page
    assert "COMMAND-100<" not in page
    assert "And 3 more commands" in page
