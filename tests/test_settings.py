"""Settings: sources and their precedence, messages for what is wrong, and that every setting can be set."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from headwater.errors import ConfigurationError
from headwater.model.entry import MAX_FIELDS
from headwater.setting_kinds import Address, render_value
from headwater.settings import (
    AdminSeed,
    Definition,
    LogFormat,
    Settings,
    StoreEngine,
    definitions,
    differing_keys,
    load_admin_seed,
    load_settings,
)


def load(
    config: str | None = None, environ: dict[str, str] | None = None, flags: dict[str, str] | None = None
) -> Settings:
    return load_settings(flags or {}, environ or {}, config)


def problem(*args: object, **kwargs: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*args, **kwargs)  # type: ignore[arg-type]
    return str(caught.value)


def test_without_any_source_everything_is_default() -> None:
    assert load() == Settings()


def test_flag_wins_over_environment_over_file_over_default() -> None:
    config = '[log]\nlevel = "error"\nformat = "json"\n[web]\nsession_hours = 1'
    environ = {"HEADWATER_LOG_LEVEL": "warning", "HEADWATER_LOG_FORMAT": "human"}
    settings = load(config, environ, {"log.level": "debug"})
    assert settings.log.level == "debug"
    assert settings.log.format is LogFormat.HUMAN
    assert settings.web.session_hours == 1
    assert settings.web.keep_alive_s == Settings().web.keep_alive_s


@pytest.mark.parametrize("definition", definitions(), ids=lambda definition: definition.key)
def test_every_setting_is_documented_and_reads_its_own_default_from_every_source(
    definition: Definition,
) -> None:
    assert definition.doc.endswith(".")
    assert definition.kind.allowed
    rendered = render_value(definition.default)
    assert load(f"{definition.key} = {rendered}") == Settings()
    text = ",".join(map(str, definition.default)) if isinstance(definition.default, tuple) else None
    text = text if text is not None else rendered.strip('"')
    assert load(environ={definition.variable: text}) == Settings()
    assert load(flags={definition.key: text}) == Settings()


def test_variables_are_unambiguous() -> None:
    variables = [definition.variable for definition in definitions()]
    assert len(set(variables)) == len(variables)


def test_lists_of_addresses() -> None:
    expected = (Address("0.0.0.0", 1883), Address("::", 0), Address("porch.local", 1))
    assert load('listen.mqtt = ["0.0.0.0:1883", "[::]:0", "porch.local:1"]').listen.mqtt == expected
    environ = {"HEADWATER_LISTEN_MQTT": "0.0.0.0:1883, [::]:0 ,porch.local:1"}
    assert load(environ=environ).listen.mqtt == expected


@pytest.mark.parametrize("config", ["listen.http = []", 'listen.http = "off"', 'listen.http = ["off"]'])
def test_a_listener_can_be_off_in_the_file(config: str) -> None:
    assert load(config).listen.http == ()


@pytest.mark.parametrize("text", ["", "off"])
def test_a_listener_can_be_off_in_the_environment(text: str) -> None:
    assert load(environ={"HEADWATER_LISTEN_HTTP": text}).listen.http == ()


@pytest.mark.parametrize(
    "text",
    [
        "8080",
        ":8080",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:٣",
        "::1:80",
        "[host]:80",
        "a b:1",
        "[::1]",
        "-x:1",
    ],
)
def test_an_address_that_is_none(text: str) -> None:
    message = problem(flags={"listen.mqtt": text})
    assert message.startswith("listen.mqtt (from --mqtt): ")
    assert "HOST:PORT" in message


@given(
    st.one_of(st.ip_addresses().map(str), st.from_regex(r"\A[a-z][a-z0-9]{0,20}(\.[a-z0-9]{1,20}){0,3}\Z")),
    st.integers(0, 65535),
)
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ("mqtt.max_conections = 5", ["mqtt.max_conections", "mqtt.max_connections"]),
        ("[mqqt]\nmax_connections = 5", ["mqqt", "'mqtt'"]),
        ("dat = 'x'", ["dat", "'data'"]),
        ("mqtt = 5", ["[mqtt]"]),
        ("mqtt.max_connections = 0", ["mqtt.max_connections", "file", "0", "1 to 1000000"]),
        ("mqtt.max_connections = '5'", ["mqtt.max_connections", "whole number"]),
        ("mqtt.max_connections = true", ["whole number"]),
        ("mqtt.max_connections.x = 1", ["mqtt.max_connections", "whole number"]),
        ("mqtt.connect_timeout_s = nan", ["0.1 to 600 seconds"]),
        ("mqtt.allow_topic_keys = 1", ["true or false"]),
        ("store.engine = 'oracle'", ["duckdb | memory"]),
        ("web.public_url = 'ftp://x'", ["web.public_url", "https://"]),
        ("web.public_url = 'https://x/y'", ["without a path"]),
        ("web.public_url = 'https://u:p@x'", ["web.public_url"]),
        ("web.public_url = 'https://x:99999'", ["web.public_url"]),
        ("web.metrics_token = 'short'", ["web.metrics_token", "16 to 256 printable ASCII"]),
        ("web.metrics_token = 5", ["web.metrics_token", "16 to 256 printable ASCII"]),
        ("tls.host_names = ['a b']", ["tls.host_names", "host name"]),
        ("tls.host_names = 5", ["not a list"]),
        ("tls.host_names = [5]", ["text in quotes"]),
        ("data = ''", ["data", "a path"]),
        ("data = '~nobody-of-this-name/x'", ["data", "a path"]),
        ("tls.certificate = 'x.pem'", ["tls.certificate", "tls.key"]),
        ("tls.key = 'x.pem'", ["tls.certificate", "tls.key"]),
        ("ingest.flush_points = 600000", ["ingest.max_pending_points", "ingest.flush_points"]),
        ("= 5", ["not valid TOML", "line 1"]),
        ("data = " + "9" * 5000, ["not valid TOML"]),
        ("listen.http = [" + ",".join(f"'h:{n}'" for n in range(65)) + "]", ["65 items"]),
    ],
)
def test_what_is_wrong_in_the_file_is_said_in_one_line(config: str, parts: list[str]) -> None:
    message = problem(config)
    for part in parts:
        assert part in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"HEADWATER_MQTT_MAX_CONECTIONS": "5"}, ["CONECTIONS", "'HEADWATER_MQTT_MAX_CONNECTIONS'"]),
        ({"HEADWATER_ADMIN_PASWORD": "geheim"}, ["'HEADWATER_ADMIN_PASSWORD'"]),
        ({"HEADWATER_QQQQQQ": "x"}, ["HEADWATER_QQQQQQ", "--help"]),
        ({"HEADWATER_MQTT_MAX_CONNECTIONS": "many"}, ["HEADWATER_MQTT_MAX_CONNECTIONS", "1 to 1000000"]),
        ({"HEADWATER_MQTT_MAX_CONNECTIONS": ""}, ["whole number"]),
        ({"HEADWATER_WEB_KEEP_ALIVE_S": "inf"}, ["1 to 3600 seconds"]),
        ({"HEADWATER_MQTT_ALLOW_TOPIC_KEYS": "maybe"}, ["true or false"]),
    ],
)
def test_what_is_wrong_in_the_environment(environ: dict[str, str], parts: list[str]) -> None:
    message = problem(environ=environ)
    for part in parts:
        assert part in message
    assert "geheim" not in message


def test_variables_of_others_are_left_alone() -> None:
    environ = {
        "PATH": "/bin",
        "HEADWATER_CONFIG": "/etc/headwater.toml",
        "HEADWATER_ADMIN_USER": "anna",
        "HEADWATER_ADMIN_PASSWORD": "geheim",
        "HEADWATER_ADMIN_TOKEN": "t",
        # what Kubernetes sets beside a service called headwater
        "HEADWATER_SERVICE_HOST": "10.0.0.1",
        "HEADWATER_SERVICE_PORT": "1883",
        "HEADWATER_SERVICE_PORT_MQTT": "1883",
        "HEADWATER_PORT": "tcp://10.0.0.1:1883",
        "HEADWATER_PORT_1883_TCP_ADDR": "10.0.0.1",
    }
    assert load(environ=environ) == Settings()


@pytest.mark.parametrize("token", ["geheim", "geheim geheim geheim", "geheim\ngeheimgeheim", "é" * 16, "geheim" * 50])
def test_what_is_wrong_with_a_secret_is_said_without_repeating_it(token: str) -> None:
    message = problem(environ={"HEADWATER_WEB_METRICS_TOKEN": token})
    assert "16 to 256 printable ASCII" in message
    assert token[:6] not in message


def test_a_secret_is_taken_as_it_is() -> None:
    token = "abcDEF-0123456789~!"
    assert load(environ={"HEADWATER_WEB_METRICS_TOKEN": token}).web.metrics_token == token
    assert load("web.metrics_token = ''").web.metrics_token == ""


def test_values_of_all_kinds() -> None:
    settings = load(
        """
        data = "~/water"
        tls = { certificate = "a.pem", key = "b.pem", host_names = ["*.Example.org.", "::0001"] }
        web = { public_url = "https://iot.example.org/", keep_alive_s = 3 }
        store.engine = "memory"
        """
    )
    assert settings.data == Path.home() / "water"
    assert settings.tls.certificate == Path("a.pem")
    assert settings.tls.host_names == ("*.example.org", "::1")
    assert settings.web.public_url == "https://iot.example.org"
    assert settings.web.keep_alive_s == 3.0
    assert settings.store.engine is StoreEngine.MEMORY


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().data = Path("x")  # type: ignore[misc]


@given(st.text())
def test_any_text_is_a_configuration_or_a_configuration_error(text: str) -> None:
    with suppress(ConfigurationError):
        assert load(text) == Settings()  # no text that is made at random sets anything


@given(st.sampled_from(definitions()), st.text())
def test_any_text_is_a_value_or_a_configuration_error_that_names_the_setting(definition: Definition, text: str) -> None:
    message = definition.key
    try:
        load(environ={definition.variable: text})
    except ConfigurationError as error:
        message = str(error)
    assert definition.key in message


def test_the_administrator_from_the_environment() -> None:
    assert load_admin_seed({}) == AdminSeed(None, None, None)
    seed = load_admin_seed({"HEADWATER_ADMIN_USER": "anna", "HEADWATER_ADMIN_PASSWORD": "geheim"})
    assert seed == AdminSeed("anna", "geheim", None)
    assert load_admin_seed({"HEADWATER_ADMIN_TOKEN": ""}).token is None
    assert "geheim" not in repr(seed)


def test_messages_name_the_configuration_file() -> None:
    for config in ("web.session_hours = 0", "nonsense = 1", "[web]\nnonsense = 1", "web = 1", "="):
        with pytest.raises(ConfigurationError, match=r"/etc/hw\.toml"):
            load_settings({}, {}, config, config_name="/etc/hw.toml")


def test_one_listener_must_be_left() -> None:
    off = {f"listen.{scheme}": "off" for scheme in ("http", "https", "mqtt", "mqtts")}
    assert "all off" in problem(flags=off)
    del off["listen.mqtts"]
    assert load(flags=off).listen.mqtts


def test_differing_keys_are_named() -> None:
    changed = load("mqtt.max_packet_bytes = 2048\ndata = 'elsewhere'\nlog.level = 'info'")
    assert differing_keys(Settings(), changed) == ["data", "mqtt.max_packet_bytes"]
    assert differing_keys(changed, changed) == []


def test_any_directory_gives_a_registry_of_its_own() -> None:
    data = Path("/srv/what?#/50%41 of/it")
    assert make_url(Settings(data=data).registry_url).database == str(data / "registry.db")


def test_a_channel_may_have_as_many_fields_as_an_entry() -> None:
    assert (
        load(environ={"HEADWATER_LIMITS_FIELDS_PER_CHANNEL": str(MAX_FIELDS)}).limits.fields_per_channel == MAX_FIELDS
    )
    with pytest.raises(ConfigurationError):
        load(environ={"HEADWATER_LIMITS_FIELDS_PER_CHANNEL": str(MAX_FIELDS + 1)})


def test_hosts_that_may_be_called_are_names_and_networks() -> None:
    config = 'hooks.allow_hosts = ["Lamp.local.", "192.168.7.0/24", "fd00::/8", "10.0.0.7"]'
    assert load(config).hooks.allow_hosts == ("lamp.local", "192.168.7.0/24", "fd00::/8", "10.0.0.7/32")
    for text in ("192.168.7.1/24", "300.1.1.1", "10.0.0", "http://lamp", "a b"):
        assert "hooks.allow_hosts" in problem(environ={"HEADWATER_HOOKS_ALLOW_HOSTS": text})


def test_the_mail_server() -> None:
    config = """
        [mail]
        host = "mail.example.com"
        from_address = "headwater@example.com"
        username = "headwater"
        password = "päss word"
    """
    settings = load(config)
    assert settings.mail.password == "päss word"
    assert "päss" not in repr(settings)
    assert "mail.from_address" in problem('mail.host = "mail.example.com"')
    assert "mail.password_file" in problem(config + '\npassword_file = "/run/secrets/mail"')
    long = "x" * 257
    assert long not in problem(environ={"HEADWATER_MAIL_PASSWORD": long})
    for text in ("ada", "ada@", "@example.com", "Ada <ada@example.com>", "a@b@c.d", "a b@c.d", "ada@exa mple.com"):
        assert "mail.from_address" in problem(environ={"HEADWATER_MAIL_FROM_ADDRESS": text})
