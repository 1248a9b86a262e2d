"""The models that the suite knows: what they are called, what they take, what they answer."""
