class DatabaseOptions:
    def __init__(self, stores_folders: list, type: object = None, erasure_config: object = None) -> None:
        self.stores_folders = stores_folders
