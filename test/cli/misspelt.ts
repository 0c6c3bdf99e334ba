/**
 * A handler module whose declaration names a field that the answer does not have. The command loads it as it is: its types
 * are stripped, and not checked.
 */
import { HandlerPlugin, OutputGroup, TableHandler } from "effect-sluice"
import * as Layer from "effect/Layer"
import { Card } from "../support/declared.ts"

const Cards = OutputGroup.make("clinic", Card)

/** The handler of cards. */
export const cards = HandlerPlugin.group(Cards).pipe(Layer.provide(Cards.toLayer({
  card: TableHandler.make(Card, {
    table: "card",
    object: "clinic.Card",
    // @ts-expect-error the compiler refuses it, where it is asked
    columns: ({ output }) => ({ patient: output.patient, note: output.noet })
  })
})))
