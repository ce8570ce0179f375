"""Where calls to models and judges are made: in this process, or by the workers of a cluster.

    from vlmtools.engine.spec import open_engine

    with open_engine("ray", workers=4, gpus_per_worker=1) as engine:
        for call, result in engine.map(blocks, work):
            ...   # this process alone writes the run folder

An engine knows neither the run folder nor keys: it takes blocks of calls that are not stored yet and gives each call
back with its result, in any order. What is stored, and under which key, is the same whoever made the call; that is
why a run begun on one engine goes on with another.
"""
