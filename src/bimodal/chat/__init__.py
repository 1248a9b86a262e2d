"""Conversations in the shape of OpenAI's API: requests judged, answers told; for real time and batch alike."""
