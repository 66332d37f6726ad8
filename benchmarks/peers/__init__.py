"""One module a contestant, each with a class `Contestant`, written as a good user of that library would.

``Contestant(case, weights)`` builds the network of `case` on equal weights; ``step()`` trains on its one batch
(or, for a case without training, runs it forward in inference mode) and waits for the result; ``loss()`` is the
loss of the last step (forward only: the mean of the outputs). ``VERSION`` names the library.
"""
