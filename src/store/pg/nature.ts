/**
 * Determines what a statement does besides reading and writing rows: whether it changes the transaction, the session, or the
 * result of other runs' statements on the same connection. Judged by the text alone. A statement not known to be harmless
 * counts as harmful.
 */
import { type Token, tokenize } from "./lexer.ts"

/** What a statement does besides reading and writing rows. */
export interface Nature {
  /** It begins or ends a transaction. */
  readonly control: boolean
  /** It may leave something in the transaction for the statements after it: a setting, a cursor, an object. */
  readonly transaction: boolean
  /** It may leave something in the session, beyond the transaction. */
  readonly session: boolean
  /** The rows it reads or locks must not change until the next statement of the same handler run. */
  readonly order: boolean
  /** It is a savepoint statement of the client for a nested transaction. */
  readonly savepoint: boolean
}

const plain: Nature = { control: false, transaction: false, session: false, order: false, savepoint: false }

/** Postgres functions that change only rows, or sequences, which a rollback does not undo anyway. */
const harmless = new Set(
  `abs acos age array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims
  array_position array_positions array_prepend array_remove array_replace array_sample array_shuffle array_to_json
  array_to_string array_upper ascii asin atan atan2 avg bit_and bit_count bit_length bit_or bit_xor bool_and bool_or
  btrim cardinality cast cbrt ceil ceiling char_length character_length chr clock_timestamp coalesce collation concat
  concat_ws convert_from convert_to corr cos cot count covar_pop covar_samp crypt cume_dist current_database
  current_schema current_setting date date_add date_bin date_part date_subtract date_trunc daterange decode degrees
  dense_rank digest div encode every exp extract factorial first_value floor format gcd gen_random_bytes
  gen_random_uuid gen_salt generate_series generate_subscripts get_bit get_byte greatest grouping hashtext
  hashtextextended hmac initcap int4range int8range isempty isfinite json_agg json_array json_array_elements
  json_array_elements_text json_array_length json_arrayagg json_build_array json_build_object json_each json_each_text
  json_exists json_extract_path json_extract_path_text json_object json_object_agg json_object_keys json_objectagg
  json_populate_record json_populate_recordset json_query json_scalar json_serialize json_strip_nulls json_table
  json_to_record json_to_recordset json_typeof json_value jsonb_agg jsonb_array_elements jsonb_array_elements_text
  jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
  jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists
  jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_populate_record
  jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
  jsonb_typeof justify_days justify_hours justify_interval lag last_value lcm lead least left length ln log log10 lower
  lower_inc lower_inf lpad ltrim make_date make_interval make_time make_timestamp make_timestamptz max md5 merge_action
  min min_scale mod mode multirange nextval normalize now nth_value ntile nullif num_nonnulls num_nulls numrange
  octet_length overlay parse_ident percent_rank percentile_cont percentile_disc phraseto_tsquery pi pg_typeof
  pg_sleep pg_sleep_for plainto_tsquery position power quote_ident quote_literal quote_nullable radians random
  random_normal range_agg range_intersect_agg range_merge rank regexp_count regexp_instr regexp_like regexp_match
  regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr regr_avgx regr_avgy regr_count
  regr_intercept regr_r2 regr_slope repeat replace reverse right round row row_number row_to_json rpad rtrim scale
  set_bit set_byte setweight sha224 sha256 sha384 sha512 sign similarity sin split_part sqrt starts_with
  statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strip strpos substr
  substring sum tan text timeofday timestamp timestamptz timezone to_ascii to_bin to_char to_date to_hex to_json to_jsonb
  to_number to_oct to_regclass to_timestamp to_tsquery to_tsvector transaction_timestamp translate trim trim_array
  trim_scale trunc ts_headline ts_rank ts_rank_cd tsrange tstzrange unaccent unistr unnest upper upper_inc upper_inf
  uuid_extract_timestamp uuid_extract_version uuid_generate_v1 uuid_generate_v4 uuidv4 uuidv7 var_pop var_samp variance
  websearch_to_tsquery width_bucket word_similarity`.split(/\s+/)
)

/** Functions whose result or effect another run's statement in between would change. */
const ordered = new Set([
  "lastval",
  "currval",
  "setval",
  "pg_advisory_xact_lock",
  "pg_advisory_xact_lock_shared",
  "pg_try_advisory_xact_lock",
  "pg_try_advisory_xact_lock_shared"
])

/** Postgres functions that leave something for the statements after them, but nothing beyond the transaction. */
const ofTransaction = new Set(["pg_notify", "pg_export_snapshot"])

/** Keywords that a parenthesis may follow without making a call. */
const keywords = new Set(
  `all and any array as asc between by case check collate conflict cross cube desc distinct do else end except exists
  fetch filter for from full group grouping having ilike in inner insert intersect into is isnull join lateral left like
  limit materialized natural not notnull null offset on only operator or order over partition primary returning right rollup
  select set sets similar some symmetric table tablesample then to union unique using values when where window with`
    .split(/\s+/)
)

/** Keywords that are also names of functions where an expression begins. */
const unreserved = new Set(
  `by conflict cross filter full ilike inner insert isnull join like materialized natural notnull over partition set sets
  similar tablesample`.split(/\s+/)
)

/** Types that are written with a parenthesis, like `varying(10)`. */
const types = new Set([
  "varying",
  "varchar",
  "char",
  "character",
  "numeric",
  "decimal",
  "bit",
  "time",
  "interval",
  "float"
])

const is = (token: Token | undefined, ...texts: ReadonlyArray<string>): boolean =>
  token !== undefined && (token.kind === "word" || token.kind === "symbol") && texts.includes(token.text)

const isName = (token: Token | undefined): boolean => token?.kind === "word" || token?.kind === "quoted"

/** The position of the parenthesis that closes the one at `open`. */
const closing = (tokens: ReadonlyArray<Token>, open: number): number => {
  let depth = 0
  for (let at = open; at < tokens.length; at++) {
    if (is(tokens[at], "(")) depth++
    if (is(tokens[at], ")") && --depth === 0) return at
  }
  return tokens.length
}

/** The position of the parenthesis that the one at `close` closes. */
const opening = (tokens: ReadonlyArray<Token>, close: number): number => {
  let depth = 0
  for (let at = close; at >= 0; at--) {
    if (is(tokens[at], ")")) depth++
    if (is(tokens[at], "(") && --depth === 0) return at
  }
  return -1
}

/** The first token of the qualified name that ends at `at`. */
const startOfName = (tokens: ReadonlyArray<Token>, at: number): number => {
  let start = at
  while (is(tokens[start - 1], ".") && isName(tokens[start - 2])) start -= 2
  return start
}

const beginsExpression = (before: Token | undefined): boolean =>
  is(before, "select") || (before?.kind === "symbol" && before.text !== ")" && before.text !== "]")

/** Whether the name and parenthesis after `before` are an alias with its columns: `from unnest(a) t(x)`. */
const isAlias = (tokens: ReadonlyArray<Token>, before: number): boolean => {
  if (is(tokens[before], "as")) return true
  if (!is(tokens[before], ")")) return false
  const open = opening(tokens, before)
  // an expression follows these
  return !is(tokens[open - 1], "operator") && !(is(tokens[open - 1], "on") && is(tokens[open - 2], "distinct"))
}

/** Whether the parenthesis at `open` holds the columns of a common table expression: `with t(x) as (select 1)`. */
const isCommonTable = (tokens: ReadonlyArray<Token>, before: Token | undefined, open: number): boolean => {
  const close = closing(tokens, open)
  if (!is(before, "with", "recursive", ",") || !is(tokens[close + 1], "as")) return false
  const query = tokens.findIndex((token, at) => at > close + 1 && !is(token, "not", "materialized"))
  return is(tokens[query], "(") &&
    is(tokens[query + 1], "select", "insert", "update", "delete", "merge", "with", "values", "table", "(")
}

/** The functions that a statement calls, with their schema unless it is `pg_catalog`. */
const callsOf = (tokens: ReadonlyArray<Token>): ReadonlyArray<string> => {
  const calls: Array<string> = []
  for (let open = 1; open < tokens.length; open++) {
    const name = tokens[open - 1]
    if (!is(tokens[open], "(") || !isName(name)) continue
    const start = startOfName(tokens, open - 1)
    const before = tokens[start - 1]
    const isQualified = start < open - 1
    const isWord = !isQualified && name!.kind === "word"
    if (isWord && keywords.has(name!.text) && !(unreserved.has(name!.text) && beginsExpression(before))) continue
    // a table with its columns, an alias with its columns, a type with its size
    if (is(before, "into") || isAlias(tokens, start - 1) || (is(before, ":") && is(tokens[start - 2], ":"))) continue
    if (isWord && types.has(name!.text) && !beginsExpression(before)) continue
    if (isCommonTable(tokens, before, open)) continue
    const qualifier = isQualified ? tokens.slice(start, open - 2).map(({ text }) => text).join("") : "pg_catalog"
    calls.push(qualifier === "pg_catalog" ? name!.text : `${qualifier}.${name!.text}`)
  }
  return calls
}

const has = (tokens: ReadonlyArray<Token>, ...words: ReadonlyArray<string>): boolean =>
  tokens.some((_, at) => words.every((word, n) => is(tokens[at + n], word)))

const locksRows = (tokens: ReadonlyArray<Token>): boolean =>
  has(tokens, "for", "update") || has(tokens, "for", "no", "key", "update") || has(tokens, "for", "share") ||
  has(tokens, "for", "key", "share")

/** Whether every call of `set_config` states, in the text, that it is for the transaction only. */
const isLocalConfig = (tokens: ReadonlyArray<Token>): boolean =>
  tokens.every(({ text }, at) => {
    if (text !== "set_config") return true
    const close = closing(tokens, at + 1)
    return is(tokens[close - 1], "true") && is(tokens[close - 2], ",")
  })

/** Whether a table that it makes may be a temporary one. */
const namesTemporary = (tokens: ReadonlyArray<Token>): boolean =>
  tokens.some(({ text }) => text === "temp" || text === "temporary" || text === "pg_temp")

const ofQuery = (tokens: ReadonlyArray<Token>): Nature => {
  const calls = callsOf(tokens)
  const unknown = calls.filter((name) => !harmless.has(name) && !ordered.has(name))
  const makesTable = tokens.some((token, at) => is(token, "into") && !is(tokens[at - 1], "insert", "merge"))
  return {
    ...plain,
    transaction: unknown.length > 0 || makesTable,
    session: unknown.some((name) => name === "set_config" ? !isLocalConfig(tokens) : !ofTransaction.has(name)) ||
      (makesTable && namesTemporary(tokens)),
    order: locksRows(tokens) || calls.some((name) => ordered.has(name))
  }
}

const leavesInSession = { ...plain, transaction: true, session: true }
const leavesInTransaction = { ...plain, transaction: true }

const ofStatement = (tokens: ReadonlyArray<Token>): Nature => {
  const [first, second, third, fourth] = tokens
  switch (first?.kind === "word" ? first.text : "(") {
    case "(":
    case "select":
    case "insert":
    case "update":
    case "delete":
    case "merge":
    case "with":
    case "values":
    case "table":
      return ofQuery(tokens)
    case "show":
      return plain
    case "lock":
      return { ...plain, order: true }
    case "savepoint":
      return isOfClient(second) ? { ...plain, savepoint: true } : leavesInTransaction
    case "release":
      return isOfClient(is(second, "savepoint") ? third : second) ? { ...plain, savepoint: true } : leavesInTransaction
    case "rollback":
    case "abort": {
      if (is(second, "prepared")) return { ...plain, control: true }
      const at = is(second, "work", "transaction") ? 2 : 1
      if (!is(tokens[at], "to")) return { ...plain, control: true }
      return isOfClient(is(third, "savepoint") ? fourth : third) ? { ...plain, savepoint: true } : leavesInTransaction
    }
    case "begin":
    case "start":
    case "commit":
    case "end":
      return { ...plain, control: true }
    case "prepare":
      return is(second, "transaction") ? { ...plain, control: true } : leavesInSession
    case "set":
      return is(second, "local", "constraints", "transaction") ? leavesInTransaction : leavesInSession
    case "declare":
      return either(has(tokens, "with", "hold") ? leavesInSession : leavesInTransaction, ofQuery(tokens))
    case "fetch":
    case "move":
    case "close":
    case "notify":
    case "truncate":
    case "alter":
    case "drop":
    case "grant":
    case "revoke":
    case "comment":
    case "analyze":
      return leavesInTransaction
    case "create":
      return namesTemporary(tokens) || has(tokens, "as") ? leavesInSession : leavesInTransaction
    // changes the session, or runs code that the text does not show
    default:
      return leavesInSession
  }
}

const isOfClient = (name: Token | undefined): boolean => name !== undefined && /^effect_sql_\d+$/.test(name.text)

const either = (a: Nature, b: Nature): Nature => ({
  control: a.control || b.control,
  transaction: a.transaction || b.transaction,
  session: a.session || b.session,
  order: a.order || b.order,
  savepoint: a.savepoint && b.savepoint
})

const judge = (sql: string): Nature => {
  const statements = tokenize(sql)
  if (statements === undefined) return leavesInSession
  return statements.length === 0 ? plain : statements.map(ofStatement).reduce(either)
}

/**
 * How many statements are remembered, and characters of their texts. A program has few distinct statements, unless it writes
 * values into their text, or rows of any number, whose texts may be long.
 */
const mostKnown = 1000
const mostCharacters = 4_000_000
const known = new Map<string, Nature>()
let characters = 0

/** What a statement does besides reading and writing rows. Cached by its text. */
export const natureOf = (sql: string): Nature => {
  const found = known.get(sql)
  if (found !== undefined) return found
  const nature = judge(sql)
  characters += sql.length
  if (known.size >= mostKnown || characters > mostCharacters) {
    known.clear()
    characters = sql.length
  }
  known.set(sql, nature)
  return nature
}
