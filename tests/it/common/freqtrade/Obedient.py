import os
import time

from freqtrade.strategy import IStrategy


class Obedient(IStrategy):
    """Enters at once, never exits, and does at each turn what the test has written to its order file."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    minimal_roi = {"0": 10}
    stoploss = -0.9
    startup_candle_count = 1

    def order(self):
        try:
            with open(os.environ["OBEDIENT_ORDER"]) as file:
                return file.read().strip()
        except OSError:
            return ""

    def bot_loop_start(self, current_time, **kwargs):
        if self.order() == "throw":
            raise KeyError("no such column")
        while self.order() == "sleep":
            time.sleep(0.1)

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe["exit_long"] = 0
        return dataframe
