"""Another try for a message that could not be used: it is read anew, by the code of today."""

from __future__ import annotations

from perdure.errors import Conflict
from perdure.gateway.hooks import PROVIDERS
from perdure.labeling.deliveries import Delivery
from perdure.metadata.repository import AccessRows, DeliveryRows


def replay(access: AccessRows, deliveries: DeliveryRows, hook: str, key: str) -> Delivery:
    """What became of it. Raises NotFound; Conflict where its body was dropped with age."""
    found, kept = access.hook(hook), deliveries.kept(hook, key)
    if kept.body is None:
        raise Conflict("the body of this message was dropped with age", field="key", remedy="have its sender send it again")
    message = PROVIDERS[found.provider].read(found, kept.body, kept.delivery.received_at, kept.headers)
    return deliveries.replay(hook, found.campaign, key, message.meaning)
