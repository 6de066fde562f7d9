"""Tables, constraints and small derived properties: one module per noun of the glossary."""

from models.api_credentials import (
    ApiCredential,
    ApiCredentialGroup,
    ApiScope,
    CredentialState,
    IdempotencyKey,
    KeyState,
)
from models.attachments import Attachment
from models.audit_events import AuditEvent
from models.base import Base, fold, is_storable, prefix_range, table_of, utcnow
from models.bundles import Bundle, CustomerBundle
from models.command_runs import CommandRun, CommandRunState, CommandSource
from models.customers import Customer, CustomerStatus
from models.deliveries import Delivery, DeliveryClaim, DeliveryState, SkipReason
from models.direct_debits import AccountScheme, DirectDebit, DirectDebitNotice
from models.email_templates import (
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    TemplateKind,
)
from models.general_parameters import GeneralParameters, GeneralParametersVersion
from models.groups import Group
from models.mailings import AcceptedWelcome, Lane, Mailing, MailingCustomer, MailingState, MailLine
from models.platform_accounts import LocalPlatformAccount
from models.provisioning import (
    LocalPlatformTenant,
    NumberSequence,
    OffPeakException,
    OffPeakWindow,
    ProvisioningPolicy,
    ProvisioningRun,
    ProvisioningStep,
    RunState,
    StepName,
    StepState,
)
from models.registration_links import InvitationState, RegistrationLink
from models.service_templates import (
    Audience,
    OptionKind,
    ServiceOption,
    ServiceTemplate,
    ServiceTemplateBundle,
    ServiceTemplateEmailTemplate,
    ServiceTemplateVersion,
    StartRule,
)
from models.sessions import ResetLink, SelectedUser, SignInSession, Throttle
from models.subscription_requests import (
    NotificationKind,
    RequestCount,
    RequestNotification,
    RequestState,
    RequestTransition,
    SubscriptionRequest,
)
from models.suppressions import Suppression
from models.users import (
    CUSTOMER_ROLES,
    STAFF_ROLES,
    Role,
    User,
    UserGroup,
    UserStatus,
    WelcomeState,
)
from models.webhooks import (
    MessageState,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
    WebhookSubscription,
)

__all__ = [
    "CUSTOMER_ROLES",
    "STAFF_ROLES",
    "AcceptedWelcome",
    "AccountScheme",
    "ApiCredential",
    "ApiCredentialGroup",
    "ApiScope",
    "Attachment",
    "Audience",
    "AuditEvent",
    "Base",
    "Bundle",
    "CommandRun",
    "CommandRunState",
    "CommandSource",
    "CredentialState",
    "Customer",
    "CustomerBundle",
    "CustomerEmailTemplate",
    "CustomerStatus",
    "Delivery",
    "DeliveryClaim",
    "DeliveryState",
    "DirectDebit",
    "DirectDebitNotice",
    "EmailTemplate",
    "EmailTemplateText",
    "EmailTemplateVersion",
    "GeneralParameters",
    "GeneralParametersVersion",
    "Group",
    "IdempotencyKey",
    "InvitationState",
    "KeyState",
    "Lane",
    "LocalPlatformAccount",
    "LocalPlatformTenant",
    "MailLine",
    "Mailing",
    "MailingCustomer",
    "MailingState",
    "MessageState",
    "NotificationKind",
    "NumberSequence",
    "OffPeakException",
    "OffPeakWindow",
    "OptionKind",
    "ProvisioningPolicy",
    "ProvisioningRun",
    "ProvisioningStep",
    "RegistrationLink",
    "RequestCount",
    "RequestNotification",
    "RequestState",
    "RequestTransition",
    "ResetLink",
    "Role",
    "RunState",
    "SelectedUser",
    "ServiceOption",
    "ServiceTemplate",
    "ServiceTemplateBundle",
    "ServiceTemplateEmailTemplate",
    "ServiceTemplateVersion",
    "SignInSession",
    "SkipReason",
    "StartRule",
    "StepName",
    "StepState",
    "SubscriptionRequest",
    "Suppression",
    "TemplateKind",
    "Throttle",
    "User",
    "UserGroup",
    "UserStatus",
    "WebhookAttempt",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookMessage",
    "WebhookSubscription",
    "WelcomeState",
    "fold",
    "is_storable",
    "prefix_range",
    "table_of",
    "utcnow",
]
