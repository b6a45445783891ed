"""`tagstream doctor`: looks at everything a worker stands on, changes nothing, and says what to do about each fault.

One module per organ; each check is a function that gives findings. They know nothing of each other: one that fails
does not hide the next, except that nothing more can be asked of a server that does not answer.
"""
