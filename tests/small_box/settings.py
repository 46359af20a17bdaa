"""The configurations: what a small box runs with is the defaults, but for addresses."""

GATEWAY = """
id = "box"
data_dir = "{data}"
[intake]
listen = "127.0.0.1:8061"
[spark]
listen = "0.0.0.0:8443"
[admin]
listen = "127.0.0.1:8071"
"""

UPLINK = """
[uplink]
url = "https://10.77.0.2:8443"
ca = "{keys}/ca.pem"
cert = "{keys}/box.pem"
key = "{keys}/box.key"
"""

RELAY = """
id = "relay"
data_dir = "{data}"
[spark]
listen = "0.0.0.0:8443"
[[client]]
name = "*"
allow = ["uplink", "read", "acknowledge"]
"""
