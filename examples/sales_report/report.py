"""What was expected and what was sold, as report.csv. It is called after each run of the job; or: python report.py"""

import csv
import sqlite3

QUERY = """
SELECT day, product, round(prediction, 1) AS expected,
    (SELECT sum(quantity) FROM orders AS o WHERE o.day = f.day AND o.product = f.product) AS sold
FROM forecast AS f ORDER BY day, product
"""

with sqlite3.connect("shop.db") as shop, open("report.csv", "w", newline="") as file:
    found = shop.execute(QUERY)
    written = csv.writer(file, lineterminator="\n")
    written.writerow(column[0] for column in found.description)
    written.writerows(found)
shop.close()
