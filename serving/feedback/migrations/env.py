"""How alembic runs the migrations: on the connection that `serving.feedback.store.migrate` hands in."""

from alembic import context

from serving.feedback.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
