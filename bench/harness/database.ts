/**
 * The bench's own statements: to prepare, check and clean up. What is measured has its own client.
 */
import { Pool } from "pg"

/** Runs a statement. */
export type Sql = <Row extends object>(text: string, values?: ReadonlyArray<unknown>) => Promise<ReadonlyArray<Row>>

/** A connection of the bench's own. */
export interface Admin {
  readonly query: Sql
  readonly close: () => Promise<void>
}

/** Opens a few connections. */
export const admin = (url: string): Admin => {
  const pool = new Pool({ connectionString: url, max: 4, application_name: "bench" })
  // a server that is stopped closes idle connections
  pool.on("error", () => {})
  return {
    query: async (text, values) => (await pool.query(text, values === undefined ? [] : [...values])).rows,
    close: () => pool.end()
  }
}

/** Makes an empty database and returns its address. */
export const createDatabase = async (server: string, name: string): Promise<string> => {
  const sql = admin(server)
  await sql.query(`drop database if exists ${name} with (force)`)
  await sql.query(`create database ${name}`)
  await sql.close()
  return server.replace(/\/[^/]*$/, `/${name}`)
}

/** Drops a database, and ends the connections to it. */
export const dropDatabase = async (server: string, name: string): Promise<void> => {
  const sql = admin(server)
  await sql.query(`drop database if exists ${name} with (force)`)
  await sql.close()
}
