/**
 * Whether a handler was built with another client than the store's, whose statements are not in the store's transactions.
 */
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type { ChunkStore } from "../../ChunkStore.ts"

/** Names the client. Copies of the store's client, for example without transformations, have its transactions. */
export const outsideOf =
  ({ transactionService }: SqlClient.SqlClient): NonNullable<ChunkStore["Service"]["outsideOf"]> => (services) => {
    const found = [
      { name: "SqlClient", client: Context.getOption(services, SqlClient.SqlClient) },
      { name: "PgClient", client: Context.getOption(services, PgClient.PgClient) }
    ]
    const other = found.find(({ client }) =>
      Option.isSome(client) && client.value.transactionService.key !== transactionService.key
    )
    return other === undefined ? undefined : `a ${other.name} that is not the store's`
  }
