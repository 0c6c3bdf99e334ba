/**
 * The packages that the command needs beside Sluice, as they are installed: the versions of `peerDependencies`. Imports
 * nothing, because the launcher reads it when a package is missing.
 */

/** The embedded database. The two packages are released in step, so their versions are exact. */
export const embedded: ReadonlyArray<string> = ["@electric-sql/pglite@0.5.14", "@electric-sql/pglite-socket@0.2.17"]

/** What every command needs. */
export const required: ReadonlyArray<string> = ["effect@~4.1.0", "@effect/platform-node@~4.1.0", "@effect/sql-pg"]

/** The name of a package as it is installed. */
export const nameOf = (spec: string): string => spec.replace(/(?<=.)@.*$/, "")
