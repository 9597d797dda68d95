"""Stands in for the fetcher: writes a file to stdout as a radio would. Run as a program.

URL: file:///path?rate=BYTES_A_SECOND&burst=BYTES&stop=BYTES&hold=1&code=EXIT; `once` names a file whose presence means:
away; `broken` one whose absence means: torn off at the end.
"""

import os
import sys
import time
from urllib.parse import parse_qs, urlsplit

url = urlsplit(sys.argv[-1])
options = {k: v[0] for k, v in parse_qs(url.query).items()}
if once := options.get("once"):
    if os.path.exists(once):
        sys.exit(1)
    open(once, "w").close()
with open(url.path, "rb") as file:
    data = file.read()[: int(options.get("stop", 2**31))]
sent = int(options.get("burst", 0))
os.write(1, data[:sent])
start = time.monotonic()
while sent < len(data):
    due = int(options.get("burst", 0)) + int((time.monotonic() - start) * float(options.get("rate", 1e9)))
    if due > sent:
        sent += os.write(1, data[sent:due])
    time.sleep(0.01)
if "hold" in options:
    time.sleep(60)
if (broken := options.get("broken")) and not os.path.exists(broken):
    open(broken, "w").close()
    sys.exit(4)
sys.exit(int(options.get("code", 0)))
