/**
 * A declared handler may name only fields that its answer can have. The compiler refuses others, but modules that the command
 * loads are not type-checked: without a check when the handler is made, a misspelt field would be persisted as null.
 */
import { Output, TableHandler } from "effect-sluice"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { describe, expect, it } from "vitest"

const base = { table: "note", object: "clinic.Note" }

/** An array of the answer, and arrays within its elements. */
const problems = Schema.Array(Schema.Struct({
  name: Schema.String,
  onset: Schema.Struct({ year: Schema.Int }),
  remarks: Schema.Array(Schema.Struct({ words: Schema.String }))
}))

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 2,
  schema: Schema.Struct({
    text: Schema.NullOr(Schema.String),
    author: Schema.optionalKey(Schema.NullOr(Schema.Struct({ role: Schema.String }))),
    tags: Schema.Array(Schema.String),
    problems
  }),
  // what only an older version has is not there when rows are made
  upcasts: {
    1: Output.upcast(Schema.Struct({ body: Schema.String }), ({ body }) => ({ text: body, tags: [], problems: [] }))
  }
}) {}

/** A declaration in a module that nobody has type-checked. */
interface Written {
  readonly columns: (of: any) => any
  readonly each?: (of: any) => any
  readonly inner?: (of: any) => any
  readonly children?: (of: any) => any
}
const make = (output: Output.Output<any, any>, written: Written) => TableHandler.make(output, { ...base, ...written })

const text: Written = { columns: ({ output }) => ({ content: output.text }) }

/** What is wrong, after the output's name. */
const refused: ReadonlyArray<readonly [string, Written]> = [
  [
    "column \"content\" takes output.txt, and the answer has no field \"txt\": is \"text\" meant?",
    { columns: ({ output }) => ({ content: output.txt }) }
  ],
  [
    "column \"content\" takes output.body, and the answer has no field \"body\"",
    { columns: ({ output }) => ({ fine: output.text, content: output.body }) }
  ],
  [
    "column \"role\" takes output.author.rolle, and output.author has no field \"rolle\": is \"role\" meant?",
    { columns: ({ output }) => ({ role: output.author.rolle }) }
  ],
  [
    "column \"words\" takes output.text.words, and output.text has no field \"words\"",
    { columns: ({ output }) => ({ words: output.text.words }) }
  ],
  [
    "column \"name\" takes output.problems.name, and output.problems has no field \"name\": it is an array",
    { columns: ({ output }) => ({ name: output.problems.name }) }
  ],
  [
    "column \"first\" takes output.tags.0, and output.tags has no field \"0\": it is an array",
    { columns: ({ output }) => ({ first: output.tags[0] }) }
  ],
  [
    "each names output.tagz, and the answer has no field \"tagz\": is \"tags\" meant?",
    { each: ({ output }) => output.tagz, columns: ({ item }) => ({ tag: item }) }
  ],
  ["each names output.text, which is no array", { ...text, each: ({ output }) => output.text }],
  ["each names output, which is no array", { ...text, each: ({ output }) => output }],
  [
    "column \"name\" takes item.nane, and an item has no field \"nane\": is \"name\" meant?",
    { each: ({ output }) => output.problems, columns: ({ item }) => ({ name: item.nane }) }
  ],
  [
    "column \"year\" takes item.onset.yaer, and item.onset has no field \"yaer\": is \"year\" meant?",
    { each: ({ output }) => output.problems, columns: ({ item }) => ({ year: item.onset.yaer }) }
  ],
  [
    "column \"tag\" takes item.name, and an item has no field \"name\"",
    { each: ({ output }) => output.tags, columns: ({ item }) => ({ tag: item.name }) }
  ],
  [
    "inner names item.remark, and an item has no field \"remark\": is \"remarks\" meant?",
    { ...text, each: ({ output }) => output.problems, inner: ({ item }) => item.remark }
  ],
  [
    "inner names item.onset, which is no array",
    { ...text, each: ({ output }) => output.problems, inner: ({ item }) => item.onset }
  ],
  [
    "column \"words\" takes inner.word, and an inner element has no field \"word\": is \"words\" meant?",
    {
      each: ({ output }) => output.problems,
      inner: ({ item }) => item.remarks,
      columns: ({ inner }) => ({ words: inner.word })
    }
  ]
]

const own = (written: Written) => () => make(Note, written)
const inChild = (written: Written) => () =>
  make(Note, { ...text, children: ({ child }) => [child({ table: "part", object: "clinic.Part", ...written })] })

describe("a field that no answer has is refused where the handler is made", () => {
  it.each(refused)("%s", (words, written) => {
    expect(own(written)).toThrow(new Error(`the declared handler of schemas.clinic.ward.note: ${words}`))
  })

  it.each(refused)("in a child: %s", (words, written) => {
    expect(inChild(written)).toThrow(
      new Error(`the declared handler of schemas.clinic.ward.note, its child "part": ${words}`)
    )
  })

  it("in a child of an element", () => {
    const child = (written: Written) => () =>
      make(Note, {
        each: ({ output }) => output.problems,
        columns: ({ item }) => ({ name: item.name }),
        children: ({ child }) => [child({ table: "part", object: "clinic.Part", ...written })]
      })
    expect(child({ columns: ({ item }) => ({ year: item.onset.yeer }) })).toThrow("item.onset has no field \"yeer\"")
    expect(child({ ...text, inner: ({ item }) => item.name })).toThrow("inner names item.name, which is no array")
    expect(child({ inner: ({ item }) => item.remarks, columns: ({ inner }) => ({ words: inner.words }) })).not
      .toThrow()
  })
})

/** Makes a handler of an answer with this schema, without the help of types. */
const takes = (schema: Schema.Codec<any, any>, written: Written) => {
  const output = Output.make("schemas.clinic.ward.note", { schema })
  return () => make(output, written)
}
const column = (schema: Schema.Codec<any, any>, of: (output: any) => unknown) =>
  takes(schema, { columns: ({ output }) => ({ content: of(output) }) })
const each = (
  schema: Schema.Codec<any, any>,
  of: (output: any) => unknown,
  item: (item: any) => unknown = (it) => it
) =>
  takes(schema, {
    each: ({ output }) => of(output),
    columns: ({ item: it }) => ({ it: item(it) })
  })

interface Tree {
  readonly word: string
  readonly left: Tree | null
  readonly parts: ReadonlyArray<Tree>
}
const Tree: Schema.Codec<Tree> = Schema.Struct({
  word: Schema.String,
  left: Schema.NullOr(Schema.suspend(() => Tree)),
  parts: Schema.Array(Schema.suspend(() => Tree))
})

class Remark extends Schema.Class<Remark>("Remark")({ words: Schema.String, at: Schema.DateTimeUtcFromString }) {}

const leaf = Schema.Struct({ a: Schema.String })

describe("a field that some answer has is taken", () => {
  it("of the answer, whole, null or missing", () => {
    expect(own({
      columns: ({ output }) => ({ all: output, text: output.text, role: output.author.role, tags: output.tags })
    })).not.toThrow()
    const maybe = Schema.Struct({ list: Schema.optional(Schema.NullOr(Schema.Array(leaf))) })
    expect(each(maybe, (output) => output.list, (item) => item.a)).not.toThrow()
    expect(each(maybe, (output) => output.list, (item) => item.b)).toThrow("no field \"b\"")
    expect(each(Schema.Array(leaf), (output) => output, (item) => item.a)).not.toThrow()
  })

  it("of any member of a union", () => {
    const either = Schema.Union([leaf, Schema.Struct({ b: Schema.Union([Schema.String, Schema.Array(leaf)]) })])
    expect(column(either, (output) => output.a)).not.toThrow()
    expect(column(either, (output) => output.b)).not.toThrow()
    expect(each(either, (output) => output.b, (item) => item.a)).not.toThrow()
    expect(column(either, (output) => output.c)).toThrow("no field \"c\"")
    expect(column(Schema.Union([leaf, Schema.Json]), (output) => output.c)).not.toThrow()
    expect(
      column(
        Schema.TaggedUnion({ Seen: { by: Schema.String }, Missed: { why: Schema.String } }),
        (output) => output.why
      )
    )
      .not.toThrow()
  })

  it("of a record, by any name", () => {
    const counts = Schema.Record(Schema.String, leaf)
    expect(column(counts, (output) => output.anything.a)).not.toThrow()
    expect(column(counts, (output) => output.anything.b)).toThrow("output.anything has no field \"b\"")
    const open = Schema.StructWithRest(leaf, [Schema.Record(Schema.String, Schema.Json)])
    expect(column(open, (output) => output.anything.b)).not.toThrow()
    expect(column(Schema.Record(Schema.Literals(["am", "pm"]), leaf), (output) => output.pm.a)).not.toThrow()
  })

  it.each([
    ["Json", Schema.Json],
    ["Unknown", Schema.Unknown],
    ["Any", Schema.Any],
    ["ObjectKeyword", Schema.ObjectKeyword],
    ["a declaration", Schema.declare((value): value is { readonly a: string } => value !== null)],
    ["an empty struct", Schema.Struct({})],
    ["never", Schema.Never],
    ["an empty union", Schema.Union([])]
  ])("of %s, by any name", (_, schema) => {
    const holder = Schema.Struct({ held: schema }) as unknown as Schema.Codec<unknown>
    expect(column(holder, (output) => output.held.a.b)).not.toThrow()
    expect(column(holder, (output) => output.hled)).toThrow("is \"held\" meant?")
  })

  it.each([
    ["Json", Schema.Json],
    ["Unknown", Schema.Unknown],
    ["ObjectKeyword", Schema.ObjectKeyword],
    ["an empty tuple", Schema.Tuple([])]
  ])("of the elements of %s, by any name", (_, schema) => {
    const holder = Schema.Struct({ held: schema }) as unknown as Schema.Codec<unknown>
    expect(each(holder, (output) => output.held, (item) => item.a.b)).not.toThrow()
  })

  it("of the elements of a tuple", () => {
    const pair = Schema.TupleWithRest(Schema.Tuple([leaf]), [Schema.Struct({ b: Schema.String })])
    expect(each(pair, (output) => output, (item) => item.a)).not.toThrow()
    expect(each(pair, (output) => output, (item) => item.b)).not.toThrow()
    expect(each(pair, (output) => output, (item) => item.c)).toThrow("an item has no field \"c\"")
  })

  it("of a schema that contains itself", () => {
    expect(column(Tree, (output) => output.left.left.left.word)).not.toThrow()
    expect(column(Tree, (output) => output.left.left.wrod)).toThrow("output.left.left has no field \"wrod\"")
    expect(each(Tree, (output) => output.left.parts, (item) => item.left.word)).not.toThrow()
    expect(each(Tree, (output) => output.left.parts, (item) => item.wrod)).toThrow("is \"word\" meant?")
  })

  it("of a schema that has no end, or is not there yet", () => {
    const itself: Schema.Codec<unknown> = Schema.suspend(() => itself)
    const orItself: Schema.Codec<unknown> = Schema.NullOr(Schema.suspend(() => orItself))
    const fresh = (): Schema.Codec<unknown> => Schema.NullOr(Schema.suspend(fresh))
    const later: Schema.Codec<unknown> = Schema.suspend(() => {
      throw new ReferenceError("used before its definition")
    })
    for (const schema of [itself, fresh(), later]) expect(column(schema, (output) => output.a)).not.toThrow()
    // null, and nothing else
    expect(column(orItself, (output) => output.a)).toThrow("no field \"a\"")
  })

  it("of a class", () => {
    expect(column(Remark, (output) => output.words)).not.toThrow()
    expect(column(Remark, (output) => output.at)).not.toThrow()
    expect(column(Remark, (output) => output.wrods)).toThrow("is \"words\" meant?")
    expect(column(Remark, (output) => output.at.epochMillis)).toThrow("output.at has no field \"epochMillis\"")
  })

  it("by its name in the JSON, where decoding gives it another", () => {
    const renamed = leaf.pipe(Schema.encodeKeys({ a: "recorded" }))
    expect(column(renamed, (output) => output.recorded)).not.toThrow()
    expect(column(renamed, (output) => output.a)).toThrow("no field \"a\"")
    const unpacked = Schema.Struct({ note: leaf }).pipe(Schema.decodeTo(leaf, {
      decode: SchemaGetter.transform(({ note }) => note),
      encode: SchemaGetter.transform((note) => ({ note }))
    }))
    expect(column(unpacked, (output) => output.note.a)).not.toThrow()
    expect(column(unpacked, (output) => output.a)).toThrow("no field \"a\"")
  })

  it("as JSON has what JavaScript holds in another form", () => {
    const held = Schema.Struct({ maybe: Schema.Option(leaf), all: Schema.ReadonlySet(leaf), when: Schema.Date })
    expect(column(held, (output) => output.maybe.value.a)).not.toThrow()
    expect(column(held, (output) => output.when)).not.toThrow()
    expect(each(held, (output) => output.all, (item) => item.a)).not.toThrow()
  })
})
