/**
 * The chat laboratory on Postgres: its drain, and the durable subscriber that attaches images.
 */
import { DomainEvents, Drain, HandlerRegistry, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Layer from "effect/Layer"
import { ChatlabHandlers } from "../../examples/chatlab/handlers.ts"
import { MediaSubscriber } from "../../examples/chatlab/Media.ts"
import { Chatlab } from "../../examples/chatlab/outputs.ts"
import * as repositories from "../../examples/chatlab/repositories.ts"
import { client } from "../support/client.ts"

/** All of it, on a database. Two replies to a batch, so that there are several commits. */
export const laboratory = (url: string) =>
  Layer.merge(Drain.layer, MediaSubscriber).pipe(
    Layer.provide(HandlerRegistry.layer(Chatlab).pipe(Layer.provide(ChatlabHandlers))),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(Layer.merge(PgStore.layer, repositories.layerPg)),
    Layer.provide(Settings.layer({ batchSize: 2 })),
    Layer.provideMerge(client(url, { maxConnections: 4 }))
  )
