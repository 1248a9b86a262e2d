"""A customer calls the hotline, again and again: python change.py CUSTOMER"""

import sqlite3
import sys

with sqlite3.connect("shop.db") as shop:
    shop.execute(
        "UPDATE customers SET calls = calls + 5, updated_at = '2026-04-01 09:30:00' WHERE customer_id = ?",
        (int(sys.argv[1]),),
    )
shop.close()
