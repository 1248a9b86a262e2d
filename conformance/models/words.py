"""`words` for servers that take a Python class whose predict() yields: the text, word by word."""


class Words:
    inputs = {"text_input": str}
    outputs = {"text_output": str}

    def predict(self, row):  # type: ignore[no-untyped-def] # a class that knows no server
        for number, word in enumerate(row["text_input"].split(" ")):
            yield {"text_output": word if number == 0 else f" {word}"}
