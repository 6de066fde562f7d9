"""The sweep: finds what the queue forgot and what dead workers left."""

from __future__ import annotations

from extensions import queues
from services import (
    claim_recovery,
    customer_follow_ups,
    deliveries,
    direct_debit_notices,
    idempotency,
    impersonations,
    provisioning,
    registration_drafts,
    registration_links,
    request_notifications,
    reset_links,
    security_notices,
    sign_ins,
    staff_invitations,
    user_import_runs,
    webhook_deliveries,
    welcome_mails,
)


def sweep() -> None:
    """Return expired claims to the line and start what waits with nobody at work on it.

    Triggered every SWEEP_SECONDS, by the scheduler or by a job that goes on beside it. Idempotent,
    and harmless when two run at once.
    """
    claim_recovery.expire_claims()
    claim_recovery.cancel_leftovers()
    claim_recovery.remove_orphaned_journals()
    welcome_mails.begin_accepted()
    for mailing_id, lane, workers in deliveries.list_waiting_mailings():
        if not workers or not queues[lane.value].count:
            queues.enqueue(lane.value, "jobs.deliveries.deliver_mailing", mailing_id)
    if not queues["default"].count:  # Those that wait there already are not asked for again.
        _start_mails()
    provisioning.replan_missed()
    customer_follow_ups.begin_due_deletions()
    if not queues["provisioning"].count:
        provisioning.start_due()
        for customer_id in customer_follow_ups.list_due():
            customer_follow_ups.start(customer_id)
    if not queues["webhooks"].count:
        webhook_deliveries.start_waiting()
    webhook_deliveries.tidy_up()
    impersonations.end_those_over()
    user_import_runs.wipe_old_imports()
    sign_ins.delete_stale_rows()
    registration_drafts.delete_stale_drafts()
    registration_links.delete_stale_links()
    idempotency.delete_old_keys()


def _start_mails() -> None:
    """The system's own mails, one at a time."""
    for link_id in reset_links.list_unmailed():
        queues.enqueue("default", "jobs.reset_links.mail_reset_link", link_id)
    for link_id in registration_links.list_unmailed():
        queues.enqueue("default", "jobs.registration_links.mail_registration_link", link_id)
    for notification_id in request_notifications.list_unmailed():
        queues.enqueue("default", "jobs.requests.mail_notification", notification_id)
    for notice_id in direct_debit_notices.list_unmailed():
        queues.enqueue("default", "jobs.direct_debits.mail_notice", notice_id)
    for notice_id in security_notices.list_unmailed():
        queues.enqueue("default", "jobs.second_factors.mail_notice", notice_id)
    for invitation_id in staff_invitations.list_unmailed():
        queues.enqueue("default", "jobs.staff_invitations.mail_invitation", invitation_id)
    for import_id in user_import_runs.list_waiting():
        queues.enqueue("default", "jobs.user_imports.work_on_import", import_id)
