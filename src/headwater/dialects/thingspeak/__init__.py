"""ThingSpeak: channels of eight fields, and more where an owner names them, over MQTT and REST.

`parameters`, `times`, `field_names`, `parse`, `read_query` and `render` are pure. `http` lists the paths, which
`writes`, `reads`, `editing`, `export`, `keys` and `channels` answer through `endpoint` (plain updates go past it,
through `quick_update`), and `mqtt` the topics; `callers` says who may, `errors` what went wrong in ThingSpeak's words.
"""

from headwater.dialects.thingspeak.files import channel_files
from headwater.dialects.thingspeak.http import chart_points, routes
from headwater.dialects.thingspeak.mqtt import topics
from headwater.dialects.thingspeak.quick_update import quick_paths
from headwater.services.dialect import Dialect

__all__ = ["DIALECT", "channel_files", "chart_points"]

DIALECT = Dialect("thingspeak", routes, topics, quick_paths)
