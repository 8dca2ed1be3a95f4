-- The parts of a request's shape: what a decision can depend on, as netstrings; spangate/rpc/shape.py reads them.
--
-- Rules: what cannot be read with certainty is refused. Values, keys and parameters are no part of a shape: rights are on
-- tables and columns.
-- Not here: which calls there are (rpcs.lua), which accesses a shape makes (the checkpoint).

local concat, sort = table.concat, table.sort
local refuse, malformed = refusal.refuse, refusal.malformed
local scan, scan_field, is_zero = wire.scan, wire.scan_field, wire.is_zero
local text, netstring, add_netstrings = wire.text, wire.netstring, wire.add_netstrings

-- Transactions. Two of their features are permissions of their own, and part of every shape: `h`, writes that are hidden
-- from change streams, and `p`, partitioned DML.

local NO_FLAGS = "0:,"
local HIDDEN = { [NO_FLAGS] = "1:h,", ["1:p,"] = "2:hp," }
local PARTITIONED = { [NO_FLAGS] = "1:p,", ["1:h,"] = "2:hp," }

local function hide(out)
  out.flags = HIDDEN[out.flags] or out.flags
end

-- Reads the TransactionOptions in field `number` of `within`: where their fields are, or nil.
local function read_options(s, out, within, number)
  local options = scan_field(s, within, number, messages.TransactionOptions)
  if not options then return nil end
  if (options[1] and 1 or 0) + (options[2] and 1 or 0) + (options[3] and 1 or 0) > 1 then
    malformed("a transaction has two modes")
  end
  if options[1] then scan_field(s, options, 1, messages["TransactionOptions.ReadWrite"]) end
  if options[3] then out.flags = PARTITIONED[out.flags] end
  if options[5] and not is_zero(s, options[5], options[-5]) then hide(out) end
  return options
end

-- Reads the TransactionSelector in field 2, and leaves in `out.selector` where its fields are, in `out.single` and
-- `out.begins` those of the options of a transaction of this request alone, or of one that begins with it.
local function read_selector(s, out)
  local selector = scan_field(s, out, 2, messages.TransactionSelector)
  if not selector then return end
  if (selector[1] and 1 or 0) + (selector[2] and 1 or 0) + (selector[3] and 1 or 0) > 1 then
    malformed("a transaction is selected twice")
  end
  out.selector = selector
  out.single = read_options(s, out, selector, 1)
  out.begins = read_options(s, out, selector, 3)
end

-- Statements and reads.

local function statement(s, out, sql, types)
  sql = text(s, out, sql)
  types = out[types]
  if not types then return #sql .. ":" .. sql .. ",0:," end
  return netstring(sql) .. netstring(concat(add_netstrings({}, s, types)))
end

-- tests/conformance/test_limits.py holds it against settings.py, where the reason stands.
local DISTINCT_MAX = 10000

-- Adds to `parts` the shapes that `read` gives of a MANY field's messages, each once, in the order of their first.
local function add_distinct(parts, seen, s, list, read)
  for i = 1, #list, 2 do
    local one = read(s, list[i], list[i + 1])
    if not seen[one] then
      if #parts == DISTINCT_MAX then
        refuse("request-too-large", "more than " .. DISTINCT_MAX .. " different statements or kinds of mutation")
      end
      seen[one] = true
      parts[#parts + 1] = one
    end
  end
  return parts
end

local function batch_statement(s, first, last)
  return statement(s, scan(s, first, last, messages["ExecuteBatchDmlRequest.Statement"], {}), 1, 3)
end

local function sql(s, out)
  read_selector(s, out)
  return statement(s, out, 3, 5)
end

local function batch(s, out)
  read_selector(s, out)
  return concat(add_distinct({}, {}, s, out[3] or {}, batch_statement))
end

local function read(s, out)
  read_selector(s, out)
  return concat(add_netstrings({ netstring(text(s, out, 3)), netstring(text(s, out, 4)) }, s, out[5]))
end

-- Mutations: the set of them, sorted, so that their number and order do not matter.

local KINDS = { "insert", "update", "insert_or_update", "replace", "delete", "send", "ack" }
local WRITE = messages["Mutation.Write"]
local SPECS = {
  WRITE, WRITE, WRITE, WRITE, messages["Mutation.Delete"], messages["Mutation.Send"], messages["Mutation.Ack"],
}

local function mutation(s, first, last)
  local out = scan(s, first, last, messages.Mutation, {})
  local kind
  for number = 1, #KINDS do
    if out[number] then
      if kind then malformed("a mutation has two kinds") end
      kind = number
    end
  end
  if not kind then malformed("a mutation has no kind") end
  local spec = SPECS[kind]
  local fields = scan_field(s, out, kind, spec)
  -- Field 1 of each is its table or queue.
  local parts = { netstring(KINDS[kind]), netstring(text(s, fields, 1)) }
  if spec == WRITE then add_netstrings(parts, s, fields[2]) end
  return netstring(concat(parts))
end

local function sorted(parts)
  sort(parts)
  return concat(parts)
end

local function begin(s, out)
  out.begins = read_options(s, out, out, 2)
  return out[4] and mutation(s, out[4], out[-4]) or ""
end

local function commit(s, out)
  if out[2] and out[3] then malformed("a transaction is selected twice") end
  out.single = read_options(s, out, out, 3)
  return sorted(add_distinct({}, {}, s, out[4] or {}, mutation))
end

local function batch_write(s, out)
  if out[5] and not is_zero(s, out[5], out[-5]) then hide(out) end
  local parts, seen, groups = {}, {}, out[4] or {}
  for i = 1, #groups, 2 do
    local group = scan(s, groups[i], groups[i + 1], messages["BatchWriteRequest.MutationGroup"], {})
    add_distinct(parts, seen, s, group[1] or {}, mutation)
  end
  return sorted(parts)
end

-- The rest.

-- Sessions that a request creates: their template is in field 2. Whose they are is said by a label of Spangate's own.
local OWNER_LABEL = "spangate-owner"

local function create(s, out)
  local template = scan_field(s, out, 2, messages.Session)
  if not template then return "" end
  out.multiplexed = template[6] and not is_zero(s, template[6], template[-6])
  local labels = template[2] or {}
  for i = 1, #labels, 2 do
    local label = scan(s, labels[i], labels[i + 1], messages["Session.LabelsEntry"], {})
    if text(s, label, 1) == OWNER_LABEL then
      refuse("unsupported-feature", "the label `" .. OWNER_LABEL .. "` is Spangate's own; leave it out")
    end
  end
  return ""
end

local function ddl(s, out)
  return concat(add_netstrings({}, s, out[2]))
end

local function plain() return "" end

return {
  DISTINCT_MAX = DISTINCT_MAX,
  NO_FLAGS = NO_FLAGS,
  PARTITIONED = PARTITIONED,
  OWNER_LABEL = OWNER_LABEL,
  sql = sql,
  batch = batch,
  read = read,
  begin = begin,
  commit = commit,
  batch_write = batch_write,
  create = create,
  ddl = ddl,
  plain = plain,
}
