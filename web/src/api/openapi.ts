// Generated from `/openapi.json`: `PULSE_WRITE_TYPES=1 cargo test --test it types_of_the_client` writes it anew.
export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        Alert: {
            file?: components["schemas"]["OfFile"];
            id: string;
            lines?: Record<string, unknown>[];
            /** @description Channels of the rule that are not there: nobody is told through them */
            missing_channels?: string[];
            rule?: components["schemas"]["AlertRule"];
            version?: number | null;
        };
        /** @description As a file says it: `pulse alerts check` reads the same */
        AlertRule: Record<string, unknown>;
        AnyAnswer: {
            meta: components["schemas"]["Meta"];
            result: Record<string, unknown>;
        };
        AuditEntry: {
            /**
             * @description `failed`: the change of the entry before was not made
             * @enum {unknown}
             */
            action: "created" | "changed" | "rotated" | "revoked" | "deleted" | "failed";
            address: string;
            after: Record<string, unknown> | null;
            at: components["schemas"]["Time"];
            by: {
                id: components["schemas"]["Text"];
                key: string;
                name: string;
                user?: components["schemas"]["Text"];
            };
            id: string;
        };
        BoardRequest: {
            description?: string | null;
            tiles?: components["schemas"]["Tile"][] | null;
            title: string;
        };
        Breakdown: components["schemas"]["Text"] | string[];
        CatalogueEventsRequest: {
            as_of?: components["schemas"]["Text"];
            from?: components["schemas"]["Text"];
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            search?: components["schemas"]["Text"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        CatalogueEventsResult: {
            events: {
                events: number;
                name: string;
            }[];
        };
        CatalogueFieldsRequest: {
            as_of?: components["schemas"]["Text"];
            event?: components["schemas"]["Text"];
            from?: components["schemas"]["Text"];
            include_bots?: components["schemas"]["Flag"];
            refresh?: components["schemas"]["Flag"];
            sample?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        CatalogueFieldsResult: {
            fields: {
                /** @enum {unknown} */
                kind: "string" | "number" | "time" | "boolean" | "array" | "object";
                name: string;
            }[];
            sampled: boolean;
        };
        CatalogueValuesRequest: {
            as_of?: components["schemas"]["Text"];
            event?: components["schemas"]["Text"];
            field: string;
            from?: components["schemas"]["Text"];
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            sample?: components["schemas"]["Flag"];
            search?: components["schemas"]["Text"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        CatalogueValuesResult: {
            values: components["schemas"]["CountedValue"][];
        };
        Changed: {
            changed: components["schemas"]["Tie"][];
        };
        Channel: {
            /** @description SHA-256 of what is saved, its address too: as JSON with sorted keys and no spaces */
            digest?: string;
            failed?: components["schemas"]["FailedNotice"];
            file?: components["schemas"]["OfFile"];
            /** @description 0: none */
            heartbeat_s: number;
            id: string;
            kind: string;
            /** @enum {unknown} */
            of: "project" | "all";
            /** @description Whether a file of the instance says it: only there it can be changed */
            of_file: boolean;
            /** @description What is saved, without its address */
            settings?: Record<string, unknown>;
            /** @description Whether it answered 410 */
            switched_off: boolean;
            /** @description Of one that is saved */
            version?: number;
            /** @description Notices of the project that are on their way or tried again */
            waiting: number;
        };
        Chart: {
            buckets: string[];
            compare?: components["schemas"]["Chart"];
            partial: boolean[];
            series: {
                breakdown: unknown;
                event: components["schemas"]["Text"];
                kind: components["schemas"]["Kind"];
                math: string;
                name: string;
                total: number | null;
                values: (number | null)[];
            }[];
        };
        CohortRequest: {
            filters: components["schemas"]["Filter"][];
        };
        Compare: ("previous" | "weekdays" | "year" | null) | {
            from: string;
            to?: components["schemas"]["Text"];
        };
        CountedValue: {
            error?: components["schemas"]["SamplingError"];
            events: number;
            value: unknown;
        };
        DeadLetter: {
            bytes: number;
            isCopy: boolean;
            /** @description Null of an event, which is not of a line that was counted */
            line: number | null;
            log?: components["schemas"]["LogPlace"];
            message: string;
            original: string;
            reason: string;
            receivedAt: components["schemas"]["Text"];
            source: string;
        };
        DeadLetters: {
            letters: components["schemas"]["DeadLetter"][];
            next: components["schemas"]["Text"];
            reasons: {
                code: string;
                copies: number;
                letters: number;
                reason: string;
            }[];
        };
        Error: {
            code: string;
            detail?: string;
            error?: string;
            message: string;
            requestId: string;
        };
        /** @description Fields beside these are ignored, and counted in `warnings`. */
        Event: {
            anonymousId?: unknown;
            context?: Record<string, unknown> | null;
            /** @description UUID, or any other text of up to 200 bytes; without one a retry is not safe */
            eventId?: unknown;
            previousId?: unknown;
            properties?: unknown;
            sentAt?: unknown;
            sessionId?: unknown;
            /** @description ISO 8601 with offset, or milliseconds since 1970 */
            timestamp?: unknown;
            /** @description 1 to 200 bytes */
            type?: string;
            userId?: unknown;
        };
        EventMatch: {
            event?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
        } | null;
        EventsRequest: {
            as_of?: components["schemas"]["Text"];
            cursor?: components["schemas"]["Text"];
            event?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            from?: components["schemas"]["Text"];
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        EventsResult: {
            events: components["schemas"]["StoredEvent"][];
            next: components["schemas"]["Text"];
        };
        Export: {
            complete: boolean;
            events: components["schemas"]["StoredEvent"][];
            next: components["schemas"]["Text"];
            through: string;
        };
        /** @description The newest notice of the project of the last week that was not delivered, not to all of its addresses, or not yet */
        FailedNotice: {
            at: string;
            attempts: number;
            kind: string;
            outcome: string;
            rule: string;
            webhook_id: string;
            why: string;
        };
        Filter: {
            field: string;
            /** @enum {unknown} */
            op?: "eq" | "neq" | "in" | "not_in" | "contains" | "gt" | "gte" | "lt" | "lte" | "exists" | "not_exists" | "regex" | null;
            value?: unknown;
        } | {
            any: components["schemas"]["Filters"];
        } | {
            all: components["schemas"]["Filters"];
        } | {
            did: {
                event?: components["schemas"]["Text"];
                filters?: components["schemas"]["Filters"];
                from?: components["schemas"]["Text"];
                times?: {
                    eq?: number;
                    gt?: number;
                    gte?: number;
                    lt?: number;
                    lte?: number;
                } | null;
                to?: components["schemas"]["Text"];
            };
            not?: components["schemas"]["Flag"];
        } | {
            cohort: string;
            not?: components["schemas"]["Flag"];
        };
        Filters: components["schemas"]["Filter"][] | null;
        Flag: boolean | null;
        FunnelRequest: {
            as_of?: components["schemas"]["Text"];
            attribution?: components["schemas"]["Text"];
            bins?: components["schemas"]["Whole"];
            breakdown?: components["schemas"]["Breakdown"];
            compare?: components["schemas"]["Compare"];
            complete_windows_only?: components["schemas"]["Flag"];
            /** @enum {unknown} */
            count?: "users" | "sessions" | "totals" | null;
            exclusions?: {
                event?: components["schemas"]["Names"];
                filters?: components["schemas"]["Filters"];
                from_step?: components["schemas"]["Whole"];
                to_step?: components["schemas"]["Whole"];
            }[] | null;
            filters?: components["schemas"]["Filters"];
            from: string;
            hold?: string[] | null;
            include_bots?: components["schemas"]["Flag"];
            interval?: components["schemas"]["Interval"];
            limit?: components["schemas"]["Whole"];
            /** @enum {unknown} */
            order?: "ordered" | "strict" | "unordered" | null;
            refresh?: components["schemas"]["Flag"];
            steps: {
                event?: components["schemas"]["Names"];
                filters?: components["schemas"]["Filters"];
                name?: components["schemas"]["Text"];
                optional?: components["schemas"]["Flag"];
            }[];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
            /** @enum {unknown} */
            view?: "steps" | "time_to_convert" | "trend" | null;
            window?: components["schemas"]["Text"];
        };
        FunnelResult: {
            buckets?: string[];
            compare?: components["schemas"]["FunnelResult"];
            groups: {
                avg_ms?: number | null;
                bins?: {
                    count: number;
                    from_ms: number;
                    to_ms: number;
                }[];
                breakdown: unknown;
                converted?: number | number[];
                entered?: number[];
                kind: components["schemas"]["Kind"];
                median_ms?: number | null;
                p90_ms?: number | null;
                rate?: (number | null)[];
                steps?: {
                    count: number;
                    dropped: number;
                    event: components["schemas"]["Names"];
                    from_previous: number | null;
                    from_start: number | null;
                    median_ms: number | null;
                    name: components["schemas"]["Text"];
                    p90_ms: number | null;
                }[];
            }[];
            partial?: boolean[];
        };
        /** @enum {unknown} */
        Interval: "minute" | "hour" | "day" | "week" | "month" | null;
        KeyRequest: {
            expires_at?: components["schemas"]["Text"];
            /**
             * @description What the key opens; needed for a new one, and never another one afterwards
             * @enum {unknown}
             */
            kind?: "write" | "read" | "import" | "admin" | null;
            name: string;
            /** @description Origins of the pages that may use it: `https://a.example`, `https://*.a.example`; none: any */
            origins?: string[] | null;
            /** @description Paths that it may be used for: `/v1/events`, `/i/v0/*`; none: any */
            paths?: string[] | null;
            /** @description Events a second that an instance takes with it */
            rate?: components["schemas"]["Whole"];
            /** @description Refuse requests that are of no page */
            requires_origin?: components["schemas"]["Flag"];
        };
        KeyVersion: {
            id: string;
            version: number;
        };
        Kind: ("value" | "none" | "other" | null) | ("value" | "none" | "other")[];
        Ledger: {
            lag: Record<string, unknown>;
            latency_ms: Record<string, unknown> | null;
            minutes: components["schemas"]["Sums"][];
            projects: components["schemas"]["Sums"][];
            total: components["schemas"]["Sums"];
        };
        LifecycleRequest: {
            as_of?: components["schemas"]["Text"];
            breakdown?: components["schemas"]["Breakdown"];
            compare?: components["schemas"]["Compare"];
            event?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            from: string;
            include_bots?: components["schemas"]["Flag"];
            interval?: components["schemas"]["Period"];
            limit?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        LifecycleResult: {
            buckets: string[];
            compare?: components["schemas"]["LifecycleResult"];
            partial: boolean[];
            series: {
                breakdown: unknown;
                event: components["schemas"]["Text"];
                kind: components["schemas"]["Kind"];
                /** @enum {unknown} */
                name: "new" | "returning" | "resurrected" | "dormant";
                values: number[];
            }[];
        };
        Link: {
            address: string;
            id: string;
        };
        LogPlace: {
            epoch: string;
            index?: number;
            offset: number;
            partition: number;
        };
        ManagedKey: {
            created_at: components["schemas"]["Time"];
            expires_at: components["schemas"]["Text"];
            id: string;
            /** @description The secret, shown this once */
            key?: string;
            /** @enum {unknown} */
            kind: "write" | "read" | "import" | "admin";
            name: string;
            origins: string[];
            paths: string[];
            rate: components["schemas"]["Whole"];
            requires_origin: boolean;
            revoked_at: components["schemas"]["Text"];
            secrets: {
                created_at: components["schemas"]["Time"];
                ends_at: components["schemas"]["Text"];
                /** @description As `GET /v1/session` names keys */
                name: string;
            }[];
            version: number;
        };
        Meta: {
            age_ms: number;
            as_of: components["schemas"]["Text"];
            cached: boolean;
            computed_at: components["schemas"]["Time"];
            data_through: components["schemas"]["Text"];
            excluded_bots: number | null;
            late: number | null;
            query_ms: number;
            refresh_after_ms: number;
            rows_read: number;
            sampled: boolean;
            stale?: boolean;
            /** @description What of who is who is not looked at, if anything */
            warnings?: string[];
        };
        Names: components["schemas"]["Text"] | string[];
        Note: {
            at: components["schemas"]["Time"];
            /** @description Who wrote it, as at boards */
            by: components["schemas"]["Text"];
            id: string;
            kind: string;
            text: string;
            until: components["schemas"]["Time"] | null;
        };
        NoteRequest: {
            at?: components["schemas"]["Text"];
            /** @enum {unknown} */
            kind?: "note" | "release" | "campaign" | "incident" | "holiday" | null;
            text: string;
            until?: components["schemas"]["Text"];
        };
        /** @description The file that says it: it is changed there */
        OfFile: string | null;
        PathNode: {
            kind: components["schemas"]["Kind"];
            name: unknown;
            sessions: number;
            step: number;
        };
        PathsRequest: {
            as_of?: components["schemas"]["Text"];
            collapse?: components["schemas"]["Flag"];
            end?: unknown;
            filters?: components["schemas"]["Filters"];
            from: string;
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            node?: components["schemas"]["Text"];
            refresh?: components["schemas"]["Flag"];
            start?: unknown;
            steps?: number | null;
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        PathsResult: {
            dropoffs: components["schemas"]["PathNode"][];
            links: {
                from: unknown;
                from_kind: components["schemas"]["Kind"];
                sessions: number;
                step: number;
                to: unknown;
                to_kind: components["schemas"]["Kind"];
            }[];
            nodes: components["schemas"]["PathNode"][];
        };
        /** @enum {unknown} */
        Period: "day" | "week" | "month" | null;
        Person: {
            /** @description How many of them are of bots and internal traffic, which reports leave out. */
            bots: number;
            events: number;
            first_seen: components["schemas"]["Text"];
            ids: {
                id: string;
                /** @enum {unknown} */
                kind: "anonymous" | "user" | null;
            }[];
            /** @description Ids in all; the first 1,000 are listed. */
            ids_total: number;
            last_seen: components["schemas"]["Text"];
            person: string;
            ties: components["schemas"]["Tie"][];
            traits: Record<string, unknown>;
        };
        PropertiesRequest: {
            as_of?: components["schemas"]["Text"];
            event?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            from?: components["schemas"]["Text"];
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            sample?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
            values?: components["schemas"]["Whole"];
        };
        PropertiesResult: {
            properties: {
                error?: components["schemas"]["SamplingError"];
                events: number;
                name: string;
                /** @enum {unknown} */
                type: "string" | "number" | "boolean" | "array" | "object";
                values: components["schemas"]["CountedValue"][];
            }[];
        };
        RetentionRequest: {
            as_of?: components["schemas"]["Text"];
            breakdown?: components["schemas"]["Breakdown"];
            cohort_event?: components["schemas"]["EventMatch"];
            compare?: components["schemas"]["Compare"];
            filters?: components["schemas"]["Filters"];
            from: string;
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            /** @enum {unknown} */
            mode?: "on" | "on_or_after" | null;
            period?: components["schemas"]["Period"];
            periods?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            return_event?: components["schemas"]["EventMatch"];
            rolling?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
            /** @enum {unknown} */
            type?: "first_time" | "recurring" | null;
            value?: ("users" | null) | {
                sum: string;
            };
        };
        RetentionResult: {
            average: unknown[];
            cohorts: {
                breakdown: unknown;
                kind: components["schemas"]["Kind"];
                open: boolean[];
                size: number;
                start: string;
                values: (number | null)[];
            }[];
            compare?: components["schemas"]["RetentionResult"];
        };
        /** @description By how many events the count may be off, up or down, in 95 of 100 samples; there where the request has `sample` */
        SamplingError: number;
        SavedBoard: {
            /** @description Who wrote this version: whom a trusted proxy names (`http.user_header`), else the key: by its name, or, where it has none, as `GET /v1/session` shows it */
            by: components["schemas"]["Text"];
            description: components["schemas"]["Text"];
            file: components["schemas"]["OfFile"];
            id: string;
            tiles: components["schemas"]["Tile"][] | null;
            title: string;
            version: number;
        };
        SavedCohort: {
            by?: components["schemas"]["Text"];
            file?: components["schemas"]["OfFile"];
            filters?: components["schemas"]["Filters"];
            name: string;
            version: number;
        };
        SavedVersion: {
            id: string;
            version: number;
        };
        SessionsRequest: {
            as_of?: components["schemas"]["Text"];
            breakdown?: components["schemas"]["Breakdown"];
            compare?: components["schemas"]["Compare"];
            cursor?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            from: string;
            include_bots?: components["schemas"]["Flag"];
            interval?: components["schemas"]["Interval"];
            limit?: components["schemas"]["Whole"];
            list?: components["schemas"]["Flag"];
            refresh?: components["schemas"]["Flag"];
            series?: {
                /** @enum {unknown} */
                math?: "sessions" | "visitors" | "bounce_rate" | "avg_duration_ms" | "median_duration_ms" | "pages_per_session" | "events_per_session" | null;
                name?: components["schemas"]["Text"];
            }[] | null;
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        SessionsResult: components["schemas"]["Chart"] | {
            next: components["schemas"]["Text"];
            sessions: Record<string, unknown>[];
        };
        Share: {
            board: string;
            /** @description Who made it, as at boards; those who have the link are not told */
            by: components["schemas"]["Text"];
            created_at: components["schemas"]["Time"];
            dates: boolean;
            embed: string[];
            expires_at: components["schemas"]["Time"];
            filters: components["schemas"]["Filters"];
            id: string;
            people: boolean;
            /** @description Shown once, to the one who makes the link */
            token?: string;
        };
        SharedBoard: {
            dates: boolean;
            description: components["schemas"]["Text"];
            expires_at: components["schemas"]["Time"];
            /** @description Of the link */
            id: string;
            people: boolean;
            tiles: components["schemas"]["Tile"][];
            timezone: string;
            title: string;
        };
        ShareRequest: {
            dates?: components["schemas"]["Flag"];
            /** @description Origins, such as https://shop.example or https://*.shop.example, whose pages may hold /embed/{id}#{token} in a frame */
            embed?: string[] | null;
            expires_at?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            people?: components["schemas"]["Flag"];
        };
        Statements: {
            rows_read: number;
            statements: {
                params: {
                    [key: string]: string;
                };
                sql: string;
            }[];
        };
        StickinessRequest: {
            as_of?: components["schemas"]["Text"];
            breakdown?: components["schemas"]["Breakdown"];
            compare?: components["schemas"]["Compare"];
            cumulative?: components["schemas"]["Flag"];
            event?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            from: string;
            include_bots?: components["schemas"]["Flag"];
            interval?: components["schemas"]["Period"];
            limit?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        StickinessResult: {
            buckets: string[];
            compare?: components["schemas"]["StickinessResult"];
            interval: components["schemas"]["Period"];
            partial: boolean[];
            series: {
                at_least?: number[];
                breakdown: unknown;
                event: components["schemas"]["Text"];
                kind: components["schemas"]["Kind"];
                total: number;
                values: number[];
            }[];
            times: number[];
        };
        StoredEvent: {
            anonymousId: components["schemas"]["Text"];
            context: Record<string, unknown>;
            /** Format: uuid */
            eventId: string;
            properties: Record<string, unknown>;
            receivedAt: components["schemas"]["Time"];
            sessionId: components["schemas"]["Text"];
            timestamp: components["schemas"]["Time"];
            type: string;
            userId: components["schemas"]["Text"];
        };
        Sums: {
            dead: number;
            duplicate: number;
            filtered: number;
            received: number;
            rejected: number;
            stored: number;
            waiting: number;
        };
        Text: string | null;
        Tie: {
            anonymousId?: string;
            event: {
                eventId: string;
                timestamp: components["schemas"]["Time"];
            } | null;
            merged_at: components["schemas"]["Text"];
            previousId?: string;
            undone_at: components["schemas"]["Text"];
            userId: string;
        };
        TieRequest: {
            anonymousId?: components["schemas"]["Text"];
            previousId?: components["schemas"]["Text"];
            userId?: components["schemas"]["Text"];
        };
        Tile: {
            /** @description The request of the report */
            question: Record<string, unknown>;
            report: string;
            title?: string | null;
            view?: string | Record<string, unknown> | null;
            width?: number | null;
        };
        /** Format: date-time */
        Time: string;
        Trace: {
            data_through: components["schemas"]["Text"];
            dead: components["schemas"]["DeadLetter"][];
            eventId: string;
            /** Format: uuid */
            id: string;
            rows_read: number;
            /** @enum {unknown} */
            status: "stored" | "dead" | "unknown";
            stored: {
                event: null | components["schemas"]["StoredEvent"];
                log: components["schemas"]["LogPlace"];
                person: string;
                receivedAt: components["schemas"]["Time"];
                shard: number;
                visitor: string;
            }[];
        };
        TrendsRequest: {
            as_of?: components["schemas"]["Text"];
            breakdown?: components["schemas"]["Breakdown"];
            compare?: components["schemas"]["Compare"];
            cumulative?: components["schemas"]["Flag"];
            filters?: components["schemas"]["Filters"];
            formula?: components["schemas"]["Text"];
            from: string;
            include_bots?: components["schemas"]["Flag"];
            interval?: components["schemas"]["Interval"];
            limit?: components["schemas"]["Whole"];
            moving_average?: components["schemas"]["Whole"];
            refresh?: components["schemas"]["Flag"];
            series: {
                event?: components["schemas"]["Text"];
                filters?: components["schemas"]["Filters"];
                math?: string | null;
                name?: components["schemas"]["Text"];
                property?: components["schemas"]["Text"];
            }[];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        TrendsResult: components["schemas"]["Chart"];
        UsersRequest: {
            as_of?: components["schemas"]["Text"];
            compare?: components["schemas"]["Flag"];
            cursor?: components["schemas"]["Text"];
            event?: components["schemas"]["Text"];
            filters?: components["schemas"]["Filters"];
            from?: components["schemas"]["Text"];
            include_bots?: components["schemas"]["Flag"];
            limit?: components["schemas"]["Whole"];
            /** @description A report's own request, its name as `report`, and which of its bars */
            of?: {
                report: string;
            } | null;
            refresh?: components["schemas"]["Flag"];
            timezone?: components["schemas"]["Text"];
            to?: components["schemas"]["Text"];
        };
        UsersResult: {
            next: components["schemas"]["Text"];
            total: number;
            users: {
                events: number;
                first_seen: components["schemas"]["Time"];
                last_seen: components["schemas"]["Time"];
                user: string;
            }[];
        };
        Verdict: {
            accepted: number;
            rejected: {
                code: string;
                eventId?: components["schemas"]["Text"];
                field: string;
                index: number;
                message: string;
            }[];
            warnings?: unknown[];
        };
        Who: {
            key: {
                /** @enum {unknown} */
                kind: "read";
                name: string;
            };
            project: {
                name: string;
                timezone: string;
            };
            /** @description The settings of the project (`[projects.NAME]`): what cuts its sessions, by what its own traffic is known and whether that of data centres is left out */
            rules: {
                exclude_data_centres: boolean;
                internal: ("networks" | "cookie" | "parameter")[];
                longest_session_ms: number;
                session_cut_at_campaign: boolean;
                session_cut_at_midnight: boolean;
                session_gap_ms: number;
            };
            /** @description Who is signed in with a trusted proxy (`http.user_header`) */
            user: string | null;
        };
        Whole: number | null;
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type Alert = components['schemas']['Alert'];
export type AlertRule = components['schemas']['AlertRule'];
export type AnyAnswer = components['schemas']['AnyAnswer'];
export type AuditEntry = components['schemas']['AuditEntry'];
export type BoardRequest = components['schemas']['BoardRequest'];
export type Breakdown = components['schemas']['Breakdown'];
export type CatalogueEventsRequest = components['schemas']['CatalogueEventsRequest'];
export type CatalogueEventsResult = components['schemas']['CatalogueEventsResult'];
export type CatalogueFieldsRequest = components['schemas']['CatalogueFieldsRequest'];
export type CatalogueFieldsResult = components['schemas']['CatalogueFieldsResult'];
export type CatalogueValuesRequest = components['schemas']['CatalogueValuesRequest'];
export type CatalogueValuesResult = components['schemas']['CatalogueValuesResult'];
export type Changed = components['schemas']['Changed'];
export type Channel = components['schemas']['Channel'];
export type Chart = components['schemas']['Chart'];
export type CohortRequest = components['schemas']['CohortRequest'];
export type Compare = components['schemas']['Compare'];
export type CountedValue = components['schemas']['CountedValue'];
export type DeadLetter = components['schemas']['DeadLetter'];
export type DeadLetters = components['schemas']['DeadLetters'];
export type Error = components['schemas']['Error'];
export type Event = components['schemas']['Event'];
export type EventMatch = components['schemas']['EventMatch'];
export type EventsRequest = components['schemas']['EventsRequest'];
export type EventsResult = components['schemas']['EventsResult'];
export type Export = components['schemas']['Export'];
export type FailedNotice = components['schemas']['FailedNotice'];
export type Filter = components['schemas']['Filter'];
export type Filters = components['schemas']['Filters'];
export type Flag = components['schemas']['Flag'];
export type FunnelRequest = components['schemas']['FunnelRequest'];
export type FunnelResult = components['schemas']['FunnelResult'];
export type Interval = components['schemas']['Interval'];
export type KeyRequest = components['schemas']['KeyRequest'];
export type KeyVersion = components['schemas']['KeyVersion'];
export type Kind = components['schemas']['Kind'];
export type Ledger = components['schemas']['Ledger'];
export type LifecycleRequest = components['schemas']['LifecycleRequest'];
export type LifecycleResult = components['schemas']['LifecycleResult'];
export type Link = components['schemas']['Link'];
export type LogPlace = components['schemas']['LogPlace'];
export type ManagedKey = components['schemas']['ManagedKey'];
export type Meta = components['schemas']['Meta'];
export type Names = components['schemas']['Names'];
export type Note = components['schemas']['Note'];
export type NoteRequest = components['schemas']['NoteRequest'];
export type OfFile = components['schemas']['OfFile'];
export type PathNode = components['schemas']['PathNode'];
export type PathsRequest = components['schemas']['PathsRequest'];
export type PathsResult = components['schemas']['PathsResult'];
export type Period = components['schemas']['Period'];
export type Person = components['schemas']['Person'];
export type PropertiesRequest = components['schemas']['PropertiesRequest'];
export type PropertiesResult = components['schemas']['PropertiesResult'];
export type RetentionRequest = components['schemas']['RetentionRequest'];
export type RetentionResult = components['schemas']['RetentionResult'];
export type SamplingError = components['schemas']['SamplingError'];
export type SavedBoard = components['schemas']['SavedBoard'];
export type SavedCohort = components['schemas']['SavedCohort'];
export type SavedVersion = components['schemas']['SavedVersion'];
export type SessionsRequest = components['schemas']['SessionsRequest'];
export type SessionsResult = components['schemas']['SessionsResult'];
export type Share = components['schemas']['Share'];
export type SharedBoard = components['schemas']['SharedBoard'];
export type ShareRequest = components['schemas']['ShareRequest'];
export type Statements = components['schemas']['Statements'];
export type StickinessRequest = components['schemas']['StickinessRequest'];
export type StickinessResult = components['schemas']['StickinessResult'];
export type StoredEvent = components['schemas']['StoredEvent'];
export type Sums = components['schemas']['Sums'];
export type Text = components['schemas']['Text'];
export type Tie = components['schemas']['Tie'];
export type TieRequest = components['schemas']['TieRequest'];
export type Tile = components['schemas']['Tile'];
export type Time = components['schemas']['Time'];
export type Trace = components['schemas']['Trace'];
export type TrendsRequest = components['schemas']['TrendsRequest'];
export type TrendsResult = components['schemas']['TrendsResult'];
export type UsersRequest = components['schemas']['UsersRequest'];
export type UsersResult = components['schemas']['UsersResult'];
export type Verdict = components['schemas']['Verdict'];
export type Who = components['schemas']['Who'];
export type Whole = components['schemas']['Whole'];
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
