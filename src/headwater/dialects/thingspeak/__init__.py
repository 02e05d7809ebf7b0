"""ThingSpeak: channels of up to eight fields over MQTT and REST.

`parse` and `render` are pure, `http` and `mqtt` do the talking, `errors` knows ThingSpeak's words for what went wrong.
"""

from headwater.dialects.thingspeak.http import routes
from headwater.dialects.thingspeak.mqtt import topics
from headwater.services.dialect import Dialect

DIALECT = Dialect("thingspeak", routes, topics)
