"""The other side: reads a stream over TLS, as any consumer does."""

import base64
import http.client
import json
import ssl


class Reader:
    """`keys` is a folder with ca.pem, client.pem and client.key."""

    def __init__(self, port, keys, patience):
        self.port, self.patience = port, patience
        self.tls = ssl.create_default_context(cafile=keys / "ca.pem")
        self.tls.load_cert_chain(keys / "client.pem", keys / "client.key")

    def get(self, path):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=self.patience, context=self.tls)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"{path}: {answer.status} {data[:300]}"
        return answer, data

    def records(self, stream="default"):
        """Every record there is, in order."""
        about = json.loads(self.get(f"/v1/streams/{stream}")[1])
        records, begin = [], about["earliest"]
        while begin < about["next"]:
            answer, data = self.get(f"/v1/streams/{stream}/records?from={begin}&max_bytes=1000000")
            records += [json.loads(line) for line in data.splitlines()]
            begin = int(answer.headers["Ngsi-Ferry-Next"])
        numbers = [record["seq"] for record in records]
        assert numbers == sorted(set(numbers)), "numbers go up, and none comes twice"
        return records

    def bodies(self, stream="default"):
        return [body_of(record) for record in self.records(stream)]


def body_of(record):
    if "body_base64" in record:
        return base64.b64decode(record["body_base64"]).decode(errors="surrogateescape")
    return record["body"]
