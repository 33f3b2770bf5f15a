-- Runs once, when the data folder is made. Databases must be separate: Perdure and MLflow each own a table alembic_version.
-- `perdure` itself is made by the image (POSTGRES_DB).
CREATE DATABASE mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE temporal ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE temporal_visibility ENCODING 'UTF8' TEMPLATE template0;
