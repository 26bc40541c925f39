"""What a node may be beside a client: worker, settler, checker, watcher."""
