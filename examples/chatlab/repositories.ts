/**
 * The repositories of all tables, as one layer.
 */
import * as Layer from "effect/Layer"
import { Media } from "./Media.ts"
import { Messages } from "./Messages.ts"
import { Metadata } from "./Metadata.ts"
import { Simulations } from "./Simulations.ts"
import * as tables from "./tables.ts"

/** On Postgres, with the tables made first. */
export const layerPg = Layer.mergeAll(Simulations.layerPg, Messages.layerPg, Metadata.layerPg, Media.layerPg).pipe(
  Layer.provide(tables.layer)
)

/** In memory. They take part in the transactions of a store over the same `MemoryDatabase`. */
export const layerMemory = Layer.mergeAll(
  Simulations.layerMemory,
  Messages.layerMemory,
  Metadata.layerMemory,
  Media.layerMemory
)
