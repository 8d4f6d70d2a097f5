"""Jobs that a step of a pipeline starts on the cluster: what they are made of, and how they are watched and removed.

place.py describes where their pods run, manifest.py writes the parts that all manifests share, cluster.py speaks to
the API server, watch.py waits for a job, reap.py removes what a step left. A TrainJob is components/train/cluster.py,
a RayJob is tuning/cluster.py.
"""
