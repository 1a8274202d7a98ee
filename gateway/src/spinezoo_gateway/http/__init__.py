"""HTTP for the ensemble: the API under ``/v1`` and the page. The core is the servicer's."""
