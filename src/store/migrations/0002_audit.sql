-- Format 2. The audit log: never changed, never pruned; its chain of digests is `journal::audit`'s.
create table audit (
    number integer primary key check (number > 0),
    at_ms integer not null,
    actor text not null,
    event text not null,
    subject text not null,
    detail text not null,
    previous text not null check (length(previous) = 64),
    digest text not null check (length(digest) = 64)
) strict;

create trigger audit_is_never_changed before update on audit
    begin select raise(abort, 'the audit log is append-only'); end;
create trigger audit_is_never_shortened before delete on audit
    begin select raise(abort, 'the audit log is append-only'); end;

-- Of the last line, so that a lost tail is noticed.
insert into meta (key, value) values
    ('audit_number', 0), ('audit_digest', '0000000000000000000000000000000000000000000000000000000000000000');
