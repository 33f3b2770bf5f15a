"""``gateway``, ``keys``, ``hooks``, ``deliveries``: the HTTP gateway, who may call it, and what came to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from perdure.cli.output import Json, emit, note, table, when
from perdure.cli.people import Actor, person

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.metadata.repository.access import Hook
    from perdure.metadata.tables import HookProvider

PANEL = "Gateway"
keys = typer.Typer(help="Make, list and revoke keys of the gateway.", no_args_is_help=True)
hooks = typer.Typer(help="Make, list, rotate and retire addresses for web hooks.", no_args_is_help=True)
deliveries = typer.Typer(help="List what came by web hooks; try again what could not be used.", no_args_is_help=True)

HookName = Annotated[str, typer.Argument(metavar="HOOK", help="The hook.")]
SecretRef = Annotated[
    str | None, typer.Option("--secret", help="Reference to a secret that is there already, env:NAME or file:PATH; default: a new one.")
]


def gateway() -> None:
    """Serve the HTTP gateway until SIGTERM.

    Part of `perdure up`; address and limits are the settings `gateway`.
    """
    from perdure.cli.clients import read_settings
    from perdure.errors import InvalidInput

    settings = read_settings()
    try:
        from perdure.gateway.__main__ import main
    except ModuleNotFoundError as err:
        raise InvalidInput(f"{err.name} is not installed", remedy="pip install 'perdure[gateway]'") from err
    main(settings)


@keys.command("create")
def create_key(
    principal: Annotated[str, typer.Argument(help="Whose key it is: the name in every row that they write.")],
    scopes: Annotated[list[str], typer.Option("--scope", help="What it may do; may be repeated. `admin` may do everything.")],
    days: Annotated[int | None, typer.Option(help="Days until it ends; default: never.", min=1, max=36_500)] = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it: it is kept nowhere.

    Scopes: campaign:write, campaign:read, label, adjudicate, promote:approve, predict, events:write, outcomes:write, model:read, admin.
    """
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows

    until = datetime.now(UTC) + timedelta(days=days) if days else None
    with Database.open(read_settings()) as database:
        key, secret = AccessRows(database).create_key(principal, scopes, until)
    if as_json:
        emit({**vars(key), "key": secret})
    else:
        note(f"key {key.id} of {key.principal}, for {', '.join(key.scopes)}")
        print(secret)


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List keys, the newest first."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows

    with Database.open(read_settings()) as database:
        found = AccessRows(database).keys()
    if as_json:
        emit(found)
    else:
        table(
            ("key", "principal", "scopes", "made", "ends", "revoked"),
            [(k.id, k.principal, ", ".join(k.scopes), when(k.created_at), when(k.expires_at), when(k.revoked_at)) for k in found],
            empty="no keys; make one: perdure keys create PRINCIPAL --scope label",
        )


@keys.command("revoke")
def revoke_key(key: Annotated[UUID, typer.Argument(metavar="KEY", help="The key's id.")], as_json: Json = False) -> None:
    """Have a key open nothing any more, some seconds from now at the latest."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows

    with Database.open(read_settings()) as database:
        found = AccessRows(database).revoke_key(key)
    if as_json:
        emit(found)
    else:
        note(f"key {found.id} of {found.principal} is revoked")


@keys.command("login")
def login(
    principal: Annotated[str, typer.Argument(help="Who signs in: the name of a key.")],
    key: Annotated[UUID | None, typer.Option(help="Which of their keys; default: the newest that opens.")] = None,
    minutes: Annotated[float, typer.Option(help="Minutes for which the link works.", min=1, max=10_080)] = 15,
    hours: Annotated[float, typer.Option(help="Hours for which the browser stays signed in.", min=0.1, max=2_160)] = 12,
    as_json: Json = False,
) -> None:
    """Print a link that signs a browser in, once: to label, to look at campaigns, to vote.

    The browser may do what the key may, until the session is over or the key is revoked.
    """
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import SessionRows

    settings = read_settings()
    with Database.open(settings) as database:
        link, secret = SessionRows(database).make_link(principal, key, minutes=minutes, hours=hours)
    base = settings.gateway.url or f"http://{settings.gateway.host}:{settings.gateway.port}"
    url = f"{base.rstrip('/')}/login?link={secret}"
    if as_json:
        told = {"principal": link.key.principal, "scopes": link.key.scopes, "expires_at": link.expires_at, "until": link.session_until}
        emit({"url": url, "key": link.key.id, **told})
    else:
        note(f"signs in {link.key.principal}, for {', '.join(link.key.scopes)}; works once, until {when(link.expires_at)}")
        print(url)


@hooks.command("create")
def create_hook(
    hook: HookName,
    provider: Annotated[str, typer.Option(help="Who sends: standard, labelstudio, slack, events or alertmanager.")] = "standard",
    campaign: Annotated[str | None, typer.Option(help="Whose tasks are answered, by standard and labelstudio.")] = None,
    secret: SecretRef = None,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Make an address for web hooks, and its secret, which its sender must know.

    The secret lies in a file of the data folder that only its owner can read; Slack's own is named by --secret.
    """
    from perdure.cli.clients import read_settings
    from perdure.errors import InvalidInput
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows, CampaignRows
    from perdure.metadata.tables import HookProvider

    if provider not in list(HookProvider):
        raise InvalidInput(f"{provider!r} is no provider", field="--provider", remedy=f"choose from {', '.join(HookProvider)}")
    kind, settings = HookProvider(provider), read_settings()
    if kind is HookProvider.SLACK and secret is None:
        raise InvalidInput("Slack makes its signing secret itself", field="--secret", remedy="name it: --secret file:PATH")
    if secret:
        _check_secret(kind, secret)
    with Database.open(settings) as database:
        row = CampaignRows(database).named(campaign) if campaign else None
        ref, made = (secret, None) if secret else _new_secret(settings.home, hook, kind)
        try:
            found = AccessRows(database).create_hook(hook, kind, row.id if row else None, ref, person(actor))
        except BaseException:
            if made:
                made.unlink()
            raise
    _tell(found, made, f"http://{settings.gateway.host}:{settings.gateway.port}/v1/hooks/{found.id}", as_json=as_json)


@hooks.command("list")
def list_hooks(as_json: Json = False) -> None:
    """List hooks, the newest first."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows

    with Database.open(read_settings()) as database:
        found = AccessRows(database).hooks()
    if as_json:
        emit(found)
    else:
        table(
            ("hook", "provider", "campaign", "secrets", "made by", "made", "retired"),
            [(h.id, h.provider, h.campaign or "", len(h.secrets), h.created_by, when(h.created_at), when(h.retired_at)) for h in found],
            right=("secrets",),
            empty="no hooks; make one: perdure hooks create HOOK --campaign NAME",
        )


@hooks.command("rotate")
def rotate_hook(
    hook: HookName,
    secret: SecretRef = None,
    hours: Annotated[float, typer.Option(help="Hours for which the old secret is still taken.", min=0, max=8_760)] = 24,
    as_json: Json = False,
) -> None:
    """Give a hook a new secret; the old one is taken for a while, so that its sender can change over."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows

    settings = read_settings()
    with Database.open(settings) as database:
        rows = AccessRows(database)
        provider = rows.hook(hook).provider
        if secret:
            _check_secret(provider, secret)
        ref, made = (secret, None) if secret else _new_secret(settings.home, hook, provider)
        found = rows.rotate_hook(hook, ref, datetime.now(UTC) + timedelta(hours=hours))
    _tell(found, made, f"http://{settings.gateway.host}:{settings.gateway.port}/v1/hooks/{found.id}", as_json=as_json)


@hooks.command("retire")
def retire_hook(hook: HookName, as_json: Json = False) -> None:
    """Take nothing at this address any more; senders are told so."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows

    with Database.open(read_settings()) as database:
        found = AccessRows(database).retire_hook(hook)
    if as_json:
        emit(found)
    else:
        note(f"hook {found.id} is retired")


@deliveries.command("list")
def list_deliveries(
    state: Annotated[str | None, typer.Option(help="Only these: processed or quarantined.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.", min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:
    """List messages to hooks, the newest first."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import DeliveryRows

    with Database.open(read_settings()) as database:
        found = DeliveryRows(database).deliveries(state, limit)
    if as_json:
        emit(found)
    else:
        table(
            ("hook", "delivery", "state", "tries", "came", ""),
            [(d.hook, d.key, d.state, d.attempts, when(d.received_at), d.error) for d in found],
            right=("tries",),
            empty="nothing came",
        )


@deliveries.command("replay")
def replay_delivery(
    hook: HookName, delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")], as_json: Json = False
) -> None:
    """Try a quarantined message once more.

    One that was acted on stays as it is. Ends with 1 where it still cannot be used.
    """
    from perdure.cli.clients import read_settings
    from perdure.cli.exits import Exit
    from perdure.gateway.replaying import replay
    from perdure.messages.labeling import DeliveryState
    from perdure.metadata.database import Database
    from perdure.metadata.repository import AccessRows, DeliveryRows

    with Database.open(read_settings()) as database:
        found = replay(AccessRows(database), DeliveryRows(database), hook, delivery)
    if as_json:
        emit(found)
    else:
        note(f"{found.hook}/{found.key} is {found.state}" + (f": {found.error}" if found.error else ""))
    if found.state is DeliveryState.QUARANTINED:
        raise typer.Exit(Exit.FAILED)


def _check_secret(provider: HookProvider, reference: str) -> None:
    """Raises InvalidInput for a secret with which the gateway could verify nothing."""
    from perdure.errors import InvalidInput
    from perdure.gateway.hooks import secret_for

    try:
        secret_for(provider, reference)
    except InvalidInput as err:
        raise InvalidInput(err.problem, field="--secret", remedy=err.remedy) from None


def _new_secret(home: Path, hook: str, provider: HookProvider) -> tuple[str, Path]:
    """A reference to a new secret, and the file that it is in."""
    import base64
    import secrets

    from perdure.gateway.hooks import SIGNED
    from perdure.local.files import write

    folder = home.absolute() / "secrets" / "hooks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{secrets.token_hex(8)}.secret"
    write(path, f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}" if provider in SIGNED else secrets.token_hex(32), mode=0o600)
    return f"file:{path}", path


def _tell(hook: Hook, made: Path | None, address: str, *, as_json: bool) -> None:
    secret = made.read_text() if made else None
    if as_json:
        emit({**vars(hook), "address": address, "secret": secret})
        return
    note(f"{hook.provider} hook {hook.id}: {address}")
    if secret:
        print(secret)


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(rich_help_panel=PANEL)(gateway)
    for name, group in (("keys", keys), ("hooks", hooks), ("deliveries", deliveries)):
        app.add_typer(group, name=name, rich_help_panel=PANEL)
