"""Notifications as Orion makes them: names that repeat, values that do not."""

import json

NAMES = ["temperature", "pressure", "vibration", "speed", "torque", "current", "voltage", "power", "energy", "flow",
         "level", "humidity", "position", "force", "cycles", "state", "alarm", "mode", "tool", "order"]


def notification(chance, size):
    """About `size` bytes."""
    moment = f"2026-11-26T{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}.{chance.randrange(1000):03}Z"
    entity = {"id": f"urn:ngsi-ld:Press:{chance.randrange(200):03}", "type": "Press"}
    body = {"subscriptionId": "5aeb0ee97d4ef10a12a0262f", "data": [entity]}
    number = 0
    while (text := json.dumps(body, separators=(",", ":"))) and len(text) + 90 < size:
        name = NAMES[number % len(NAMES)] + ("" if number < len(NAMES) else str(number // len(NAMES)))
        metadata = {"TimeInstant": {"type": "DateTime", "value": moment}}
        entity[name] = {"type": "Number", "value": round(chance.gauss(80, 15), 3), "metadata": metadata}
        number += 1
    return text
