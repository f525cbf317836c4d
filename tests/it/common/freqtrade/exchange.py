"""A loopback exchange that speaks as much of Binance's spot API as freqtrade needs in dry-run.

Writes `HOST:PORT` to the file that it is given, and serves until it is killed. `GET /control?mode=WORD` changes what it does:
`well`, `away` (503 to everything), or `frozen` (its candles ended ten minutes ago).
"""
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MINUTE = 60_000
PAIRS = [("BTC", "USDT"), ("ETH", "USDT")]
state = {"mode": "frozen"}


def symbol(base, quote):
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
        {"filterType": "NOTIONAL", "minNotional": "5", "applyMinToMarket": True, "maxNotional": "9000000",
         "applyMaxToMarket": False, "avgPriceMins": 5},
    ]
    return {
        "symbol": base + quote, "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8,
        "quoteAsset": quote, "quotePrecision": 8, "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET", "STOP_LOSS_LIMIT"], "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False, "filters": filters, "permissions": [], "permissionSets": [["SPOT"]],
    }


def clock():
    return int(time.time() * 1000)


def candles(limit, interval):
    step = {"1m": MINUTE, "5m": 5 * MINUTE}[interval]
    last = (clock() - (10 * MINUTE if state["mode"] == "frozen" else 0)) // step
    begins = [number * step for number in range(last - limit + 1, last + 1)]
    prices = ["100.0", "101.0", "99.0", "100.5", "12.0"]
    return [[begin, *prices, begin + step - 1, "1200", 10, "6", "600", "0"] for begin in begins]


def answer(path, query):
    name = path.removeprefix("/api/v3/")
    if name == "ping":
        return {}
    if name == "time":
        return {"serverTime": clock()}
    if name == "exchangeInfo":
        return {"timezone": "UTC", "serverTime": clock(), "rateLimits": [], "symbols": [symbol(*pair) for pair in PAIRS]}
    if name == "klines":
        return candles(min(int(query.get("limit", ["500"])[0]), 1000), query["interval"][0])
    if name in ("ticker/24hr", "ticker/bookTicker", "ticker/price"):
        asked = query.get("symbol")
        rows = [ticker(base + quote) for base, quote in PAIRS]
        return next(row for row in rows if row["symbol"] == asked[0]) if asked else rows
    if name == "depth":
        return {"lastUpdateId": clock(), "bids": [["100.4", "50"]], "asks": [["100.6", "50"]]}
    return None


def ticker(name):
    return {
        "symbol": name, "price": "100.5", "priceChange": "0", "priceChangePercent": "0", "weightedAvgPrice": "100",
        "prevClosePrice": "100", "lastPrice": "100.5", "lastQty": "1", "bidPrice": "100.4", "bidQty": "50",
        "askPrice": "100.6", "askQty": "50", "openPrice": "100", "highPrice": "101", "lowPrice": "99",
        "volume": "1000", "quoteVolume": "100000", "openTime": clock() - 86_400_000, "closeTime": clock(), "count": 9,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if parts.path == "/control":
            state["mode"] = query["mode"][0]
            return self.say(200, {})
        if state["mode"] == "away":
            return self.say(503, {"msg": "Service Unavailable"})
        found = answer(parts.path, query)
        if found is None:
            return self.say(404, {"code": -1, "msg": "not served: " + parts.path})
        self.say(200, found)

    def say(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        sys.stderr.write("%s %s\n" % (state["mode"], args[0] % args[1:]))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
with open(sys.argv[1] + ".new", "w") as file:
    file.write("127.0.0.1:%d" % server.server_address[1])
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
