"""Why a request has no candidates, and what each node lacks."""
