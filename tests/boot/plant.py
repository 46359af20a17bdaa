"""The plant: sends notifications, and knows which ones were acknowledged."""

import http.client
import itertools
import json
import threading


def post(port, body, patience, path="/notify", headers=None):
    """The status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


class Plant:
    def __init__(self, patience):
        self.patience = patience
        self.acknowledged, self.unclear, self.refused = set(), set(), []
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()

    def notification(self):
        number = next(self.numbers)
        entity = {"id": f"urn:Press:{number % 50}", "type": "Press", "count": {"type": "Number", "value": number}}
        # As long as a notification of Orion's, and never the same twice.
        entity["note"] = {"type": "Text", "value": f"{number:08} ÄÖ ≤ " + "x" * (number * 37 % 400)}
        return json.dumps({"subscriptionId": "5aeb0ee9", "data": [entity]}, ensure_ascii=False)

    def send(self, port):
        """One notification; true where it was acknowledged."""
        body = self.notification()
        with self.lock:
            self.unclear.add(body)
        try:
            status = post(port, body.encode(), self.patience)
        except (OSError, http.client.HTTPException) as error:
            status = error
        with self.lock:
            if status == 204:
                self.unclear.discard(body)
                self.acknowledged.add(body)
            else:
                self.refused.append(status)
        return status == 204

    def load(self, port, senders=4):
        return Load(self, port, senders)


class Load:
    """Sends from several threads until it is stopped."""

    def __init__(self, plant, port, senders):
        self.plant, self.port, self.over = plant, port, threading.Event()
        self.before = len(plant.acknowledged)
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(senders)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.over.is_set():
            self.plant.send(self.port)

    def acknowledged(self):
        return len(self.plant.acknowledged) - self.before

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(self.plant.patience + 10)
