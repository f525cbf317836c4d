-- Format 1. Applied once, in one transaction, to a file that holds nothing yet.

-- Numbers of the store as a whole. `seq` and `digest` are those of the last entry, so that a lost tail is noticed;
-- `pruned_seq` and `pruned_digest` those of the last entry removed, from which the chain of digests goes on.
create table meta (key text primary key, value any not null) strict, without rowid;
insert into meta (key, value) values
    ('created_at_ms', 0), ('probed_at_ms', 0), ('epoch', 0), ('incarnation', ''),
    ('seq', 0), ('digest', zeroblob(32)), ('pruned_seq', 0), ('pruned_digest', zeroblob(32));

-- Accepted alerts without an outcome. `autoincrement` keeps numbers from being used again after a row has gone.
create table intake (
    id integer primary key autoincrement,
    body text not null,
    digest blob not null check (length(digest) = 32)
) strict;

create table journal (
    seq integer primary key check (seq > 0),
    epoch integer not null,
    at_ms integer not null,
    kind text not null,
    body text not null,
    digest blob not null check (length(digest) = 32)
) strict;

-- `seq` is the last entry that moved the run.
create table runs (
    key text primary key,
    state text not null
        check (state in ('intended', 'started', 'finished', 'verified', 'cancelled', 'indeterminate')),
    epoch integer not null,
    seq integer not null
) strict, without rowid;

create table holds (
    source text not null,
    subject text not null,
    level_rank integer not null check (level_rank between 0 and 4),
    primary key (source, subject)
) strict, without rowid;

create table latch (
    id integer primary key check (id = 1),
    latched integer not null check (latched in (0, 1)),
    by text not null,
    reason text not null
) strict;
insert into latch (id, latched, by, reason) values (1, 0, '', '');

create trigger latch_is_released_by_a_person before update on latch
    when old.latched = 1 and new.latched = 0 and (trim(new.by) = '' or trim(new.reason) = '')
    begin select raise(abort, 'the latch is released only by a person with a reason'); end;
create trigger latch_stays before delete on latch
    begin select raise(abort, 'the latch is never removed'); end;
create trigger latch_is_one before insert on latch when exists (select 1 from latch)
    begin select raise(abort, 'there is one latch'); end;

-- `chain` is the digest of the entry at `seq`; `digest` covers seq, chain and body.
create table snapshots (
    seq integer primary key,
    body blob not null,
    chain blob not null check (length(chain) = 32),
    digest blob not null check (length(digest) = 32)
) strict;
