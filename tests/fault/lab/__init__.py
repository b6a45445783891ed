"""The fault laboratory: a stream of its own, faults on a seeded schedule, and a report of what they did to it."""
