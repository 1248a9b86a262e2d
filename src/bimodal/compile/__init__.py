"""From a native model to a compiled one: made, compared with the native answers, timed, and only then chosen."""
