"""The asyncio shell of `mqtt/`: listeners, connections, routing. Knows no dialect: those give it topic spaces."""
