"""The words of each wire: from bytes to Rows, and from answers to bytes."""
