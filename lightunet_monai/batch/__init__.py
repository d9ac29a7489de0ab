"""Many sources: a ledger that survives a crash; one machine or a dask cluster.

`case` is what happens to one volume, for every door. The rest of this room decides which volume is next, who works on
it, and what is known about it after a crash::

    units -> feed -> driver -> pool or cluster -> worker -> runner -> case
                       |                                      |
                     ledger, audit                         publish
"""
